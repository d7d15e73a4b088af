"""`retry`, `suspend` and `resume` against a real API server."""

from strop_api.identity import RERUN_ANNOTATION


def rerun(namespace, name="digits"):
    return namespace.get(name)["metadata"].get("annotations", {}).get(RERUN_ANNOTATION, "")


def test_retry_asks_for_another_run_each_time(strop, tell, namespace):
    """Broken, the same token would be the same run, and nothing would happen."""
    tell("StoreFailed")
    assert strop("retry", "digits").code == 0
    first = rerun(namespace)
    tell("StoreFailed", run=namespace.get()["status"]["run"] | {"rerun": first})
    assert strop("retry", "digits").code == 0
    assert first
    assert rerun(namespace) not in ("", first)


def test_a_run_that_goes_on_is_not_thrown_away(strop, tell, namespace):
    """Broken, a slip of the finger would cost hours of a GPU."""
    tell("Running")
    answer = strop("retry", "digits")
    assert answer.code == 3
    assert "--force" in answer.err
    assert not rerun(namespace)
    assert strop("retry", "digits", "--force").code == 0
    assert rerun(namespace)


def test_what_another_run_would_meet_again_is_not_repeated(strop, tell, namespace):
    """Broken, people would wait for a run that the policy refuses."""
    tell("NotAllowed", message="spec.worker.queueName: the policy does not allow fast")
    answer = strop("retry", "digits")
    assert "does not allow fast" in answer.err
    assert not rerun(namespace)


def test_suspend_and_resume_say_whether_anything_changed(strop, tell, namespace):
    """Broken, a second call would pretend to have done something."""
    tell("Running")
    assert strop("suspend", "digits").out == "digits: suspended\n"
    assert namespace.get()["spec"]["suspend"] is True
    assert strop("suspend", "digits").out == "digits: suspended already\n"
    assert "strop resume digits" in strop("retry", "digits").err
    assert strop("resume", "digits").out == "digits: resumed\n"
    assert strop("resume", "digits").out == "digits: not suspended already\n"


def test_a_resource_that_changes_again_and_again_is_a_conflict(strop, tell, namespace, monkeypatch):
    """Broken, the check that no run goes on would be of a state that is no more."""
    from strop_cli import actions

    tell("StoreFailed")
    read = actions.find.one

    def then_changed(cluster, name):
        found = read(cluster, name)
        tell("StoreFailed", message=f"seen {found.version}")
        return found

    monkeypatch.setattr(actions.find, "one", then_changed)
    answer = strop("retry", "digits")
    assert answer.code == 3
    assert "changed by somebody else" in answer.err
    assert not rerun(namespace)
