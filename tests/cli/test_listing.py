"""`strop ls` against a real API server."""

import yaml


def test_a_line_for_each_resource_says_what_its_status_says(strop, tell):
    """Broken, people would not see at a glance what passed and what did not."""
    tell("Published", "digits")
    tell("GateMissed", "slow", message="speed-up 0.9x is below 1.5x")
    tell("Running", "busy", summary={"progress": "quantize 40%"}, progress={"stage": "quantize", "percent": 40})
    answer = strop("ls")
    assert answer.code == 0
    assert answer.lines[0].split() == ["NAME", "READY", "REASON", "PROGRESS", "SPEED-UP", "DROP", "AGE"]
    rows = {line.split()[0]: line.split() for line in answer.lines[1:]}
    assert rows["digits"][1:5] == ["True", "Published", "2.31x", "0.50"]
    assert rows["slow"][1:3] == ["False", "GateMissed"]
    assert rows["busy"][1:5] == ["False", "Running", "quantize", "40%"]


def test_a_resource_that_nobody_has_seen_is_unknown(strop, namespace):
    """Broken, a cluster without a running operator would look as if runs had failed."""
    namespace.create("fresh")
    assert strop("ls").lines[1].split()[:2] == ["fresh", "Unknown"]


def test_all_namespaces_and_a_selector(strop, namespace, tell, plane):
    """Broken, -A would hide where a resource lies, or -l would not select."""
    tell("Published", "digits")
    plane.api.merge(f"{namespace.resources}/digits", {"metadata": {"labels": {"team": namespace.name}}})
    namespace.create("other")
    answer = strop("ls", "-A", "-l", f"team={namespace.name}")
    assert answer.lines[0].split()[0] == "NAMESPACE"
    assert [line.split()[:2] for line in answer.lines[1:]] == [[namespace.name, "digits"]]


def test_json_and_yaml_hold_the_objects(strop, tell):
    """Broken, scripts could not read the answer."""
    tell("Published")
    found = strop("ls", "-o", "json").document()
    assert found["items"][0]["status"]["targets"][0]["verdict"] == "Published"
    assert yaml.safe_load(strop("ls", "-o", "yaml").out) == found


def test_an_empty_namespace_is_said_beside_the_answer(strop):
    """Broken, a script would take the sentence for a resource."""
    answer = strop("ls")
    assert (answer.code, answer.out) == (0, "")
    assert "no ModelOptimizations in namespace" in answer.err
