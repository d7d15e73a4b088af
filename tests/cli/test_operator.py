"""The command line beside the real operator: what the one writes, the other reads."""

from cluster_parts import eventually, result, run_of

from strop_api.identity import RERUN_ANNOTATION


def test_a_run_is_followed_retried_and_suspended(strop, namespace, operator, kubelet):
    """Broken, the command line would read or write something else than the operator does."""
    namespace.account()
    namespace.create()
    going = strop.begin("status", "digits", "--timeout", "60s")
    first = namespace.pod()
    kubelet.runs(first)
    eventually("it runs", lambda: "Running" in going.out.getvalue())
    kubelet.ends(first, 0, result(run_of(first)))
    assert going.end() == 0
    assert "✓ export  1.5 s" in going.out.getvalue()
    assert "2.31x" in strop("ls").out

    assert strop("retry", "digits").code == 0
    token = namespace.get()["metadata"]["annotations"][RERUN_ANNOTATION]
    second = namespace.pod(but=first["metadata"]["name"])
    assert run_of(second) != run_of(first)
    assert eventually("the new run", lambda: namespace.get()["status"]["run"]["rerun"] == token)
    assert "--force" in strop("retry", "digits").err

    assert strop("suspend", "digits").code == 0
    kubelet.collects(second)
    namespace.reason("Suspended")
    assert strop("status", "digits").code == 3
    assert strop("resume", "digits").code == 0
    third = namespace.pod(but=second["metadata"]["name"])
    kubelet.runs(third)
    kubelet.ends(third, 10, result(run_of(third), "GateMissed"))
    assert strop("status", "digits", "--timeout", "30s").code == 10
