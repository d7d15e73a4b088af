"""The command: its exit codes, what it says of what it cannot read, and which files it looks at."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

Doctor = Callable[..., Result]
Findings = Callable[..., list[dict[str, Any]]]


def test_mild_findings_do_not_fail_unless_asked(doctor: Doctor, trap: Path, removed: Path) -> None:
    """A build would stop for a hint, or go on with an error."""
    assert doctor(trap).exit_code == 0
    assert doctor(trap, "--fail-on", "low").exit_code == 10
    assert doctor(removed).exit_code == 10
    assert doctor(removed, "--fail-on", "critical").exit_code == 0
    assert doctor(removed, "--fail-on", "never").exit_code == 0


def test_text_names_the_place_the_severity_and_the_mend(doctor: Doctor, removed: Path) -> None:
    """Someone without colours, or with an editor that jumps to places, would be lost."""
    said = doctor("removed.py").stdout
    assert "removed.py:3:8: ✗ High source-removed-api: tensorrt.BuilderFlag.FP16 is gone" in said
    assert "mend: Move to the replacement" in said
    assert "1 file examined: 1 High" in said


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing.py", None, "no such file"),
        ("notes.txt", b"words", "not a kind that is examined"),
        ("broken.py", b"def (:\n", "not Python that can be parsed"),
        ("zero.py", b"x = 1\0", "not Python that can be parsed"),
        ("latin.py", b"x = '\xe9'\n", "not UTF-8"),
        ("broken.yaml", b"apiVersion: strop.dev/v1alpha1\na: [1,\n", "not YAML that can be parsed"),
        ("large.yaml", b"# " + b"x" * (1 << 20) + b" strop.dev", "larger than 1 MiB"),
        ("deep.py", b"x = " + b"(" * 500 + b")" * 500, "not Python that can be parsed"),
        ("long.py", b"import torch\nx = " + b"+".join([b"1"] * 20000), "nested deeper than is read"),
        ("cookie.py", b"# -*- coding: nonsense -*-\n", "unknown encoding"),
    ],
)
def test_what_cannot_be_read_is_said(
    doctor: Doctor, tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    """A file that was not looked at would pass for a good one."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = doctor(name)
    assert (result.exit_code, result.exception is None or isinstance(result.exception, SystemExit)) == (11, True)
    assert why in result.stdout


def test_a_folder_is_searched_without_links_and_hidden_folders(findings: Findings, tmp_path: Path, trap: Path) -> None:
    """A loop of links would never end; a virtual environment would be examined as one's own code."""
    for folder in (".venv", "src/__pycache__", "src/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "copy.py").write_text(trap.read_text())
    (tmp_path / "src" / "loop").symlink_to(tmp_path)
    (tmp_path / "src" / "other.yaml").write_text("kind: Pod\n")
    assert len(findings(tmp_path / "src")) == 1
    assert len(findings(tmp_path)) == 2


def test_checks_can_be_selected_and_left_out(findings: Findings, doctor: Doctor, trap: Path, removed: Path) -> None:
    """One noisy check would make people switch all of them off."""
    assert len(findings(trap, removed)) == 2
    assert [f["check"] for f in findings(trap, removed, "--select", "source-missing-opset")] == ["source-missing-opset"]
    assert [f["check"] for f in findings(trap, removed, "--ignore", "source-missing-opset")] == ["source-removed-api"]
    refused = doctor(trap, "--ignore", "source-missing-opsett")
    assert refused.exit_code == 11
    assert "source-missing-opsett" in refused.stderr


def test_a_comment_suppresses_its_line(findings: Findings, removed: Path) -> None:
    """A known exception would have to be left out for the whole program."""
    text = removed.read_text().replace(".FP16", ".FP16  # strop: ignore[source-removed-api]")
    removed.write_text(text)
    assert findings(removed) == []
    removed.write_text(text.replace("source-removed-api", "source-removed-apis"))
    assert [f["check"] for f in findings(removed)] == ["source-removed-api", "source-unknown-suppression"]


def test_a_string_that_looks_like_a_comment_suppresses_nothing(findings: Findings, tmp_path: Path) -> None:
    """A text about the doctor would switch it off."""
    path = tmp_path / "text.py"
    path.write_text('import tensorrt\nprint(tensorrt.BuilderFlag.INT8, "# strop: ignore[source-removed-api]")\n')
    assert [f["check"] for f in findings(path)] == ["source-removed-api"]


SAMPLE = Path(__file__).parents[3] / "crds" / "samples" / "magika-static-int8.yaml"


def test_a_wrong_field_is_shown_at_its_line(findings: Findings, tmp_path: Path) -> None:
    """Someone would search a long spec for the field."""
    text = SAMPLE.read_text().replace("method: Static", "method: Statik")
    path = tmp_path / "spec.yaml"
    path.write_text("kind: Pod\n---\n" + text)
    (found,) = findings(path)
    line = next(i for i, row in enumerate(path.read_text().splitlines(), 1) if "Statik" in row)
    assert (found["check"], found["line"]) == ("spec-invalid", line)
    assert "spec.steps[0].quantize.method" in found["message"]


def test_advice_is_shown_at_the_field_it_is_about(findings: Findings, tmp_path: Path) -> None:
    """A questionable figure would be known only once the run has ended."""
    document = yaml.safe_load(SAMPLE.read_text())
    document["spec"]["data"]["calibration"]["samples"] = 8
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    rows = path.read_text().splitlines()
    found = {finding["check"]: finding["line"] for finding in findings(path)}
    assert rows[found["calibration-few-asked"] - 1].strip() == "samples: 8"


def test_what_this_build_cannot_do_is_said(findings: Findings, tmp_path: Path) -> None:
    """The refusal would come in the pod."""
    from strop_api.rules import validate
    from strop_job.plan import refusals

    document = yaml.safe_load(SAMPLE.read_text())
    document["spec"]["model"]["uri"] = "oci://registry.example/model:1"
    refused = refusals(validate(document, cluster=False))
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    said = [finding["message"] for finding in findings(path) if finding["check"] == "spec-unsupported"]
    assert refused
    assert said == [str(problem)[:256] for problem in refused]


def test_samples_have_no_serious_finding(doctor: Doctor) -> None:
    """What is shown as an example would be refused by our own checks."""
    assert doctor(SAMPLE.parent, "--select", "spec-invalid,spec-unsupported").exit_code == 0


def test_programs_and_specs_are_examined_without_heavy_libraries(tmp_path: Path, trap: Path) -> None:
    """A commit would wait seconds for torch, or fail where it is not installed."""
    heavy = "{'torch', 'onnx', 'onnxruntime', 'numpy', 'openvino', 'tensorrt'}"
    code = (
        "import sys; from pathlib import Path; from strop_job.doctor.examine import Choice, examine_all;"
        "list(examine_all([Path(p) for p in sys.argv[1:]], Choice()));"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(trap), str(SAMPLE)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_models_and_engines_are_given_to_the_checks_of_graphs(doctor: Doctor, tmp_path: Path) -> None:
    """A broken model would end the doctor instead of being a finding."""
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    (tmp_path / "broken.engine").write_bytes(b"not an engine")
    result = doctor("broken.onnx", "broken.engine", "--fail-on", "low")
    assert result.exit_code == 11
    assert "broken.onnx:1:1" in result.stdout
    assert "broken.engine:1:1" in result.stdout


def test_a_program_is_read_in_the_encoding_it_names(findings: Findings, tmp_path: Path) -> None:
    """Python reads it so; a finding would be lost behind `not UTF-8`."""
    (tmp_path / "old.py").write_bytes(b"# coding: latin-1\nimport tensorrt\nx = '\xe9', tensorrt.BuilderFlag.FP16\n")
    assert [found["check"] for found in findings("old.py")] == ["source-removed-api"]


def test_templates_of_others_are_left_out_of_a_folder(doctor: Doctor, tmp_path: Path) -> None:
    """Charts are full of YAML that is none before it is rendered; only one that holds our resource matters here."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "deployment.yaml").write_text("{{- if .Values.on }}\nkind: Deployment\n{{- end }}\n")
    assert "0 files examined" in doctor(".").stdout
    ours = "{{- if .Values.on }}\napiVersion: strop.dev/v1alpha1\n{{- end }}\n"
    (tmp_path / "templates" / "run.yaml").write_text(ours)
    assert "not YAML that can be parsed" in doctor(".").stdout


@pytest.mark.parametrize(
    "content",
    [
        b"{{- if .Values.on }}\nkind: Deployment\nmetadata: {labels: {strop.dev/run: a}}\n{{- end }}\n",
        b"a: [1,\n",
        b"a: \xe9\n",
        b"# " + b"x" * (1 << 20),
    ],
    ids=["template", "broken", "latin", "large"],
)
def test_yaml_of_others_that_is_named_is_a_hint_whatever_is_in_it(
    findings: Findings, doctor: Doctor, tmp_path: Path, content: bytes
) -> None:
    """The hook names every YAML file: a repository with charts could never commit."""
    (tmp_path / "other.yaml").write_bytes(content)
    assert [(f["check"], f["severity"]) for f in findings("other.yaml")] == [("source-not-read", "Low")]
    assert doctor("other.yaml").exit_code == 0


def test_a_misspelt_kind_is_told_with_the_near_name(findings: Findings, doctor: Doctor, tmp_path: Path) -> None:
    """A spec that no controller ever sees would pass."""
    (tmp_path / "run.yaml").write_text("apiVersion: strop.dev/v1alpha1\nkind: ModelOptimisation\n")
    (found,) = findings("run.yaml")
    assert (found["check"], found["severity"], found["line"]) == ("spec-invalid", "High", 2)
    assert "did you mean ModelOptimization?" in found["message"]
    assert doctor("run.yaml").exit_code == 10


@pytest.mark.parametrize("name", ["junk.onnx", "junk.engine", "junk.plan", "junk.trt"])
@pytest.mark.parametrize("content", [b"", b"junk that is nothing"], ids=["empty", "junk"])
def test_a_model_that_is_none_fails_where_it_is_named(
    doctor: Doctor, findings: Findings, tmp_path: Path, name: str, content: bytes
) -> None:
    """An upload that broke off would pass; an engine's owner would be told to export a graph."""
    (tmp_path / name).write_bytes(content)
    assert doctor(name, "--fail-on", "never").exit_code == 11
    assert doctor(".", "--fail-on", "never").exit_code == 0
    (found,) = findings(name)
    assert ("onnx" in found["mend"].lower()) == name.endswith(".onnx")


HOOKS = Path(__file__).parents[3] / ".pre-commit-hooks.yaml"


def test_the_hook_for_models_installs_what_runs_them() -> None:
    """Every commit with a model would end in a traceback."""
    hooks = {hook["id"]: hook for hook in yaml.safe_load(HOOKS.read_text())}
    (asked,) = hooks["strop-doctor"]["additional_dependencies"]
    extras = tomllib.loads((HOOKS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    chosen = asked.removeprefix(".[").removesuffix("]").split(",")
    needed = [one for extra in chosen for one in extras[extra]]
    assert any(one.startswith("onnxruntime>") for one in needed)
    assert any(one.startswith("onnx>") for one in needed)


def test_help_says_that_graphs_are_run(doctor: Doctor) -> None:
    """Someone would give it a graph that they do not dare to run."""
    said = " ".join(doctor("--help").stdout.split())
    assert "run on made-up inputs" in said
    assert "--seconds" in said
