"""docs/cli.md: every command in it is run against a real API server and a real store."""

import json
import re
import shlex
from pathlib import Path

import pytest
from kubelet_parts import LogNode
from status_parts import RUN, target

from strop_cli import app
from strop_cli.optimizations import CODES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
COMMANDS = [
    line.removeprefix("$ strop ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def world(shop, namespace, tell, plane, kubelet, spec_file, tmp_path, monkeypatch):
    """What the page speaks of: two published resources, a past run, a Job with two attempts, a file."""
    monkeypatch.chdir(tmp_path)
    spec_file()
    node = LogNode(plane, "docs")
    artifact = shop.published(namespace.name).model_dump(mode="json", by_alias=True)
    result = {"runId": RUN, "outcome": "Published", "target": target(), "finishedAt": "2025-12-31T00:00:00Z"}
    shop.put("reports/result.json", json.dumps(result).encode())
    report = shop.put("reports/report.html", b"page")
    past = {"id": RUN, "reason": "Published", "finishedAt": "2025-12-31T00:00:00Z", "report": report}
    uid = tell("Published", targets=[target(artifact=artifact)], report=report, runs=[past])["metadata"]["uid"]
    tell("Published", "digits-fp16")
    plane.api.merge(f"{namespace.resources}/digits", {"metadata": {"labels": {"team": "vision"}}})
    attempts(namespace, node, kubelet, uid)
    yield
    node.close()


def attempts(namespace, node, kubelet, uid):
    namespace.account()
    labels = {"strop.dev/optimization-uid": uid}
    container = {"name": "worker", "image": "registry.example.com/w:1"}
    template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    body = {"metadata": {"name": "digits", "labels": labels}, "spec": {"suspend": True, "template": template}}
    job = namespace.api.post(namespace.jobs, body)["metadata"]["uid"]
    for number, code in enumerate((12, 0)):
        metadata = {"name": f"digits-{number}", "labels": {"batch.kubernetes.io/controller-uid": job}}
        spec = {"nodeName": node.name, "containers": [container]}
        kubelet.ends(namespace.api.post(namespace.pods, {"metadata": metadata, "spec": spec}), code)
        node.say(f"digits-{number}", f"attempt {number}")
        node.hang_up(f"digits-{number}")


def test_every_command_of_the_page_runs(world, strop):
    """Broken, the page would teach what does not work."""
    assert len(COMMANDS) > 20
    for line in COMMANDS:
        answer = strop(*shlex.split(line))
        assert answer.code == 0, f"strop {line}\n{answer.out}{answer.err}"


def test_every_command_and_every_exit_code_is_on_the_page():
    """Broken, a command would be there that nobody is told of."""
    names = [info.name or info.callback.__name__ for info in app.build().registered_commands]
    for name in names:
        assert re.search(rf"`(strop )?{name}\b", PAGE), name
    rows = {int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", PAGE, re.MULTILINE) for code in row.split(",")}
    assert rows == {int(code) for code in CODES.values()} | {3}
