"""What people read when the cluster does not do as asked."""

import json

from cluster.pki import Authority
from cluster.ports import FreePort


def test_a_cluster_without_strop_is_named_so(bare, plane):
    """Broken, `404 page not found` would be all there is."""
    _, answer = bare
    assert answer.code == 3
    assert "Strop is not installed in it" in answer.err
    assert "apply crds/" in answer.err


def test_a_missing_right_is_named_with_what_to_ask_for(as_user, namespace):
    """Broken, people would not know what to ask their admin for."""
    answer = as_user()("ls")
    assert answer.code == 3
    assert f"you may not list modeloptimizations.strop.dev in namespace {namespace.name}" in answer.err
    assert "--verb=list --resource=modeloptimizations.strop.dev" in answer.err
    assert "create rolebinding" in answer.err


def test_what_an_admin_is_asked_for_is_enough(as_user, strop, tell, namespace, plane):
    """Broken, the commands in the message would not help."""
    tell("StoreFailed")
    answer = as_user("get:modeloptimizations.strop.dev")("retry", "digits")
    assert "--verb=patch --resource=modeloptimizations.strop.dev" in answer.err
    assert as_user("get,patch:modeloptimizations.strop.dev")("retry", "digits").code == 0


def test_a_subresource_is_named_as_rbac_does(as_user, strop, tell, namespace, plane):
    """Broken, the role would be for pods, and the log still refused."""
    from strop_cli.kinds import PODS, Ask
    from strop_cli.refusals import refused

    said = json.dumps({"message": 'pods "p" is forbidden: User "eve" cannot get resource "pods/log"'}).encode()
    error = refused(Ask("get", PODS, "team", "p", "log"), 403, said)
    assert "--resource=pods/log -n team" in error.mend


def test_a_name_that_is_not_there_comes_with_those_like_it(strop, tell):
    """Broken, a typing error would look like a lost resource."""
    tell("Published", "digits-int8")
    answer = strop("status", "digit-int8")
    assert answer.code == 3
    assert "there is no modeloptimizations.strop.dev digit-int8" in answer.err
    assert "did you mean digits-int8?" in answer.err


def test_an_empty_namespace_is_said(strop):
    """Broken, people would look for a typing error when it is the namespace that is wrong."""
    assert "has none: choose another with -n" in strop("status", "digits").err


def test_a_server_that_does_not_answer_is_named(strop, plane, tmp_path):
    """Broken, a trace would be all there is, or retries of a minute."""
    port = FreePort()
    config = json.loads(plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port.number}"
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    answer = strop("ls", "--kubeconfig", path, where=False)
    port.release()
    assert answer.code == 3
    assert f"cannot reach the API server https://127.0.0.1:{port.number}" in answer.err
    assert "refused" in answer.err


def test_an_authority_that_is_not_the_servers_is_named(strop, plane, tmp_path):
    """Broken, people would look for a fault of the network."""
    authority = Authority(tmp_path / "pki")
    authority.create()
    config = json.loads(plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["certificate-authority"] = str(authority.ca)
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    answer = strop("ls", "--kubeconfig", path, where=False)
    assert "certificate verify failed" in answer.err
    assert "certificate-authority is not the one" in answer.err
    assert len(answer.err.splitlines()) == 2


def test_a_context_that_is_not_there_comes_with_those_that_are(strop, plane):
    """Broken, a typing error would be a trace."""
    answer = strop("ls", "--context", "nowhere")
    assert "there is no context nowhere" in answer.err
    assert json.loads(plane.kubeconfig.read_text())["contexts"][0]["name"] in answer.err


def test_no_kubeconfig_at_all_is_said(strop, tmp_path):
    """Broken, the first thing that a newcomer sees would be a trace."""
    answer = strop("ls", "--kubeconfig", tmp_path / "none", where=False)
    assert answer.code == 3
    assert "no cluster:" in answer.err


def test_credentials_that_expired_are_said(strop, plane, tmp_path):
    """Broken, people would take it for a missing right."""
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "expired"}
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    answer = strop("ls", "--kubeconfig", path, where=False)
    assert "does not accept these credentials" in answer.err
    assert "expired" not in answer.err


def test_a_users_password_in_an_address_is_not_shown(strop, plane, tmp_path):
    """Broken, a screenshot of an error would give it away."""
    config = json.loads(plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://eve:hunter2@127.0.0.1:1"
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    answer = strop("ls", "--kubeconfig", path, where=False)
    assert "hunter2" not in answer.out + answer.err
