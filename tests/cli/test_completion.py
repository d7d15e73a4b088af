"""Completion: of the shell through typer's protocol, of kubectl through its plugins'."""

import os
import shlex

import pytest

from strop_cli import completion


@pytest.fixture(autouse=True)
def environment():
    """As before afterwards: an answer is a process's last act, and leaves its questions in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def complete(strop, monkeypatch, capsys):
    """What kubectl is told for these words."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(strop.kubeconfig))

    def ask(*words):
        completion.answer(words)
        return capsys.readouterr().out.splitlines()

    return ask


def test_names_of_the_namespace_are_offered(complete, strop, tell):
    """Broken, people would copy names by hand."""
    tell("Published", "digits-int8")
    tell("Running", "digits-fp16")
    tell("Running", "other")
    assert complete("status", "-n", strop.namespace, "dig") == ["digits-fp16", "digits-int8", ":4"]
    assert complete("status", "-n", strop.namespace, "") == ["digits-fp16", "digits-int8", "other", ":4"]


def test_commands_options_and_their_values_are_offered(complete):
    """Broken, only names would be."""
    assert complete("get-") == ["get-engine", ":4"]
    assert complete("ls", "--all") == ["--all-namespaces", ":4"]
    assert complete("ls", "-o", "") == ["table", "json", "yaml", ":4"]


def test_namespaces_and_contexts_are_offered(complete, strop):
    """Broken, they would have to be known."""
    assert complete("ls", "-n", strop.namespace[:-1])[:-1].count(strop.namespace) == 1
    assert len(complete("ls", "--context", "")) == 2


def test_a_file_is_left_to_the_shell(complete):
    """Broken, paths could not be completed."""
    assert complete("plan", "-f", "")[-1] == ":0"


def test_no_cluster_is_no_word_and_no_message(strop, monkeypatch, capsys, tmp_path):
    """Broken, a message would land in the middle of somebody's command line."""
    completion.answer(["status", "--kubeconfig", str(tmp_path / "none"), "d"])
    said = capsys.readouterr()
    assert (said.out, said.err) == (":4\n", "")


def test_a_shell_asks_by_typers_protocol(strop, tell, monkeypatch):
    """Broken, `strop --install-completion` would install something that does not answer."""
    tell("Published", "digits")
    words = ["strop", "status", "--kubeconfig", str(strop.kubeconfig), "-n", strop.namespace, "d"]
    monkeypatch.setenv("_STROP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", shlex.join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert strop(where=False).lines == ["digits"]
