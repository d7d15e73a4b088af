"""`strop` as people use it: real runs in processes of their own, exit codes, and what bad input is answered with."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import strop_job.cli
from strop_job.trust.statement import read


def strop(*words, **environment):
    command = [sys.executable, "-m", "strop_job.cli", *map(str, words)]
    env = os.environ | {"OMP_NUM_THREADS": "2", "COLUMNS": "200"} | environment
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def strop_here(*words):
    """The same in this process: for what ends before much happens."""
    ended = CliRunner().invoke(strop_job.cli.app, [str(word) for word in words])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended


class Desk:
    """A folder store with the tiny problem, and its YAML."""

    def __init__(self, root, tiny):
        self.root, self.tiny = root, tiny
        self.store = root / "out"
        self.document = tiny.lay_out(self.store)

    def run(self, change=None, *words, name="spec.yaml", strop=strop, **environment):
        document = copy.deepcopy(self.document)
        if change:
            change(document["spec"])
        path = self.tiny.write(self.root / name, document)
        return strop("run", path, "--store", self.store, "--scratch", self.root / "scratch", *words, **environment)


@pytest.fixture
def desk(tmp_path, tiny):
    return Desk(tmp_path, tiny)


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny):
    """A desk where the run went through once."""
    made = Desk(tmp_path_factory.mktemp("desk"), tiny)
    made.first = made.run()
    return made


def test_a_run_that_passes_is_published_and_says_where(done):
    """The command line's whole purpose."""
    assert done.first.returncode == 0, done.first.stdout + done.first.stderr
    pointer = json.loads((done.store / "engines/tiny/current.json").read_text())
    folder = done.store / pointer["uri"].removeprefix("s3://")
    assert {"engine.onnx", "onnx/model.onnx", "provenance.json", "manifest.json"} <= {
        str(p.relative_to(folder)) for p in folder.rglob("*")
    }
    assert str(folder / "engine.onnx") in done.first.stdout
    reports = list((done.store / "strop-records/team/reports").glob("*/report.html"))
    assert len(reports) == 1
    assert str(reports[0]) in done.first.stdout


def test_provenance_holds_spec_digests_versions_hardware_and_verdicts(done):
    """Nobody could say what a published file is."""
    [path] = (done.store / "engines/tiny").glob("*/provenance.json")
    found = read(path.read_bytes())
    assert found.spec["model"]["uri"] == "s3://models/tiny/model.onnx"
    assert {s.name for s in found.stages} >= {"resolve-model", "int8", "benchmark"}
    assert found.versions["onnxruntime"]
    assert found.hardware["cpu_model"]
    assert found.gates
    assert all(gate.verdict == "Passed" for gate in found.gates)
    assert found.evaluation.reads == 1
    assert set(found.subjects) >= {"engine.onnx", "onnx/model.onnx", "README.md"}


def test_a_second_run_answers_from_records_in_seconds(done):
    """Asking again would cost the whole run."""
    began = time.monotonic()
    again = done.run()
    seconds = time.monotonic() - began
    assert again.returncode == 0
    assert "cached" in again.stdout
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import strop_job.cli, strop_job.pipeline"], check=True)
    assert seconds - (time.monotonic() - start) < 5


def test_a_changed_gate_judges_again_and_measures_nothing(done):
    """A bound could not be tightened without a GPU's hours."""
    before = set((done.store / "strop-records/team/records").iterdir())
    missed = done.run(lambda spec: spec["gates"].update(size={"max": "1k"}))
    assert missed.returncode == 10
    assert "GateMissed" in missed.stdout
    added = set((done.store / "strop-records/team/records").iterdir()) - before
    assert [json.loads(record.read_text())["madeFrom"]["kind"] for record in added] in ([], ["AuditGates"])


def test_a_run_that_misses_a_gate_publishes_nothing_and_still_reports(desk):
    """A model that is worse than promised would be served."""
    missed = desk.run(lambda spec: spec["gates"].update(size={"max": "1k"}))
    assert missed.returncode == 10, missed.stdout + missed.stderr
    assert not (desk.store / "engines").exists()
    assert list((desk.store / "strop-records/team/reports").glob("*/report.json"))


def test_a_plan_shows_stages_and_what_is_on_record(done, tmp_path, tiny):
    """A user could not know what a run will cost."""
    shown = strop("plan", tiny.write(tmp_path / "s.yaml", done.document), "--store", done.store)
    assert shown.returncode == 0
    assert "saved" in shown.stdout
    assert "would run" not in shown.stdout


def test_a_plan_lists_everything_that_is_refused(desk):
    """A user would learn of refusals one by one."""
    document = copy.deepcopy(desk.document)
    document["spec"]["targets"][0] = {"name": "ov", "runtime": "OpenVINO", "accelerator": {}, "optional": True}
    document["spec"]["output"] |= {"formats": ["Engine"]}
    shown = strop("plan", desk.tiny.write(desk.root / "s.yaml", document), "--store", desk.store)
    assert shown.returncode == 13
    assert "spec.targets[0].accelerator" in shown.stderr
    assert "spec.targets[0].optional" in shown.stderr


def test_garbage_collection_keeps_what_a_recent_run_needs(done):
    """A cached run would be lost."""
    swept = strop("gc", "--store", done.store, "--namespace", "team", "--keep-days", 0)
    assert swept.returncode == 0
    assert "removed 0 records" in swept.stdout


def test_garbage_collection_removes_what_no_recent_run_needs_and_a_later_run_makes_it_again(done, tmp_path):
    """The store would only ever grow, or a sweep would take what was published."""
    desk = copy.copy(done)
    desk.root, desk.store = tmp_path, tmp_path / "out"
    shutil.copytree(done.store, desk.store)
    then = time.time() - 40 * 86_400
    for path in (desk.store / "strop-records").rglob("*"):
        os.utime(path, (then, then))
    records = list((desk.store / "strop-records/team/records").iterdir())
    looked = strop_here("gc", "--store", desk.store, "--namespace", "team", "--dry-run")
    assert f"would remove {len(records)} records" in looked.output
    swept = strop_here("gc", "--store", desk.store, "--namespace", "team")
    assert f"removed {len(records)} records" in swept.output
    assert not any(p.is_file() for p in (desk.store / "strop-records/team/records").rglob("*"))
    assert not any(p.is_file() for p in (desk.store / "strop-records/team/blobs").rglob("*"))
    assert list((desk.store / "engines/tiny").glob("*/engine.onnx"))
    again = desk.run(strop=strop_here)
    assert again.exit_code == 0, again.output
    assert "cached" not in again.output


HEAVY = ("onnx", "onnxruntime", "pyarrow", "tokenizers", "PIL", "matplotlib", "jinja2", "minio", "torch", "sympy")


def test_a_run_that_is_all_on_record_loads_no_library_that_works(done, tmp_path):
    """The answer to a question asked before would take longer to import than to give."""
    path = done.tiny.write(tmp_path / "s.yaml", done.document)
    words = ["run", str(path), "--store", str(done.store), "--scratch", str(tmp_path / "scratch")]
    code = f"import sys; sys.argv[1:] = {words!r}\ntry:\n    from strop_job.cli import main; main()\n"
    code += f"finally:\n    print('loaded', [n for n in {HEAVY!r} if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "loaded []" in ended.stdout, ended.stdout + ended.stderr


def test_a_report_that_says_the_same_stays_as_it_was_and_another_judgement_is_reported_anew(desk):
    """Each cached run would draw its report again, or a changed gate be missing from it."""
    assert desk.run(strop=strop_here).exit_code == 0
    [report] = (desk.store / "strop-records/team/reports").glob("*/report.json")
    first, drawn = json.loads(report.read_text()), report.with_name("report.html").stat().st_mtime_ns
    assert desk.run(strop=strop_here).exit_code == 0
    assert json.loads(report.read_text()) == first
    assert report.with_name("report.html").stat().st_mtime_ns == drawn
    report.write_text(report.read_text().replace('"Passed"', '"Missed"', 1))
    assert desk.run(strop=strop_here).exit_code == 0
    assert [gate["verdict"] for gate in json.loads(report.read_text())["gates"]] == ["Passed"] * len(first["gates"])
    assert report.with_name("report.html").stat().st_mtime_ns > drawn


def test_the_closing_words_fit_a_terminal_and_are_rounded_for_people(desk):
    """Nobody could read what the run has shown."""
    shown = desk.run(COLUMNS="80").stdout
    closing = shown[shown.index("stage  ") :]
    table, paths = closing.split("Published", 1)
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"^figure +original +optimized +change", table, re.MULTILINE)
    assert re.search(r"^accuracy +\d\.\d{3} +\d\.\d{3} +[\d.]+ points (worse|better|lost)", table, re.MULTILINE)
    assert re.search(r"^latency p50 .* [\d.]+x \(95% [\d.]+ to [\d.]+\)", table, re.MULTILINE)
    assert re.search(r"^size .* \d+% (smaller|larger)", table, re.MULTILINE)
    assert not re.search(r"\d\.\d{5,}", table)
    assert "engine.onnx" in paths


def test_the_other_documents_of_a_file_are_left_alone(desk):
    """A file with a Secret or a policy beside the resource could not be run."""
    path = desk.tiny.write(desk.root / "two.yaml", {"kind": "ConfigMap", "apiVersion": "v1"}, desk.document)
    assert strop("plan", path, "--store", desk.store).returncode == 0


def remove(name):
    return lambda spec: spec.pop(name)


BAD = {
    "no target": (remove("targets"), 11, "spec.targets"),
    "unknown field": (lambda s: s.update(modle=1), 11, "spec.modle"),
    "a number as text": (lambda s: s.update(seed="1"), 11, "spec.seed"),
    "min above opt": (lambda s: s["model"]["dimensions"][0].update(min=9), 11, "spec.model.dimensions[0].opt"),
    "static without data": (lambda s: s["data"].pop("calibration"), 11, "spec.data.calibration"),
    "missing model": (lambda s: s["model"].update(uri="s3://models/no/model.onnx"), 11, "spec.model.uri"),
    "missing data": (
        lambda s: s["data"]["evaluation"].update(uri="s3://no-such/x.npz"),
        11,
        "spec.data.evaluation.uri",
    ),
    "wrong digest": (lambda s: s["model"].update(digest="sha256:" + "0" * 64), 11, "spec.model.digest"),
    "overlapping data": (
        lambda s: s["data"]["calibration"].update(uri=s["data"]["evaluation"]["uri"]),
        11,
        "spec.data.",
    ),
    "step named like a stage": (lambda s: s["steps"][0].update(name="verify"), 11, "spec.steps[0].name"),
    "archived runtime": (lambda s: s["targets"][0].update(runtime="DeepSparse"), 11, "spec.targets[0].runtime"),
    "other instruction set": (lambda s: s["targets"][0]["cpu"].update(isa="avx9000"), 13, "spec.targets[0].cpu.isa"),
    "wrong input": (lambda s: s["model"]["inputs"][0].update(name="y"), 11, "spec.model.inputs"),
}


@pytest.mark.parametrize(("change", "code", "field"), BAD.values(), ids=BAD)
def test_bad_input_ends_with_its_exit_code_and_names_the_field(desk, change, code, field):
    """A mistake would be retried, or end in a trace."""
    ended = desk.run(change, strop=strop_here)
    assert ended.exit_code == code, ended.output
    assert field in ended.output
    assert not (desk.store / "engines").exists()


FILES = {
    "malformed": ("a: [1", "not YAML: line"),
    "empty": ("", "no documents of kind ModelOptimization"),
    "a list": ("- 1", "no documents of kind ModelOptimization"),
    "two resources": ("kind: ModelOptimization\n---\nkind: ModelOptimization", "2 documents"),
    "no name": ("kind: ModelOptimization\napiVersion: strop.dev/v1alpha1\nspec: {}", "spec."),
    "code": ("!!python/object/apply:os.system [echo]", "not YAML"),
}


@pytest.mark.parametrize(("text", "words"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_resource_is_answered_clearly(tmp_path, text, words):
    """A typing error would end in a trace."""
    (tmp_path / "spec.yaml").write_text(text)
    ended = strop_here("run", tmp_path / "spec.yaml", "--store", tmp_path / "out")
    assert ended.exit_code == 11
    assert words in ended.stderr


def test_a_missing_file_is_answered_clearly(tmp_path):
    """A typing error would end in a trace."""
    ended = strop_here("run", tmp_path / "none.yaml")
    assert ended.exit_code == 11
    assert "No such file" in ended.stderr


def test_s3_without_an_address_is_answered_clearly(desk):
    """A forgotten variable would end in a trace."""
    path = desk.tiny.write(desk.root / "s.yaml", desk.document)
    ended = strop_here("run", path, "--store", "s3")
    assert ended.exit_code == 11
    assert "STROP_S3_ENDPOINT" in ended.stderr


def test_a_store_that_does_not_answer_is_a_failed_store(desk):
    """A network that may come back would be taken for a wrong spec."""
    path = desk.tiny.write(desk.root / "s.yaml", desk.document)
    keys = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "verysecret1"}
    ended = strop("run", path, "--store", "s3", STROP_S3_ENDPOINT="http://127.0.0.1:9", **keys)
    assert ended.returncode == 12, ended.stderr
    assert "verysecret1" not in ended.stdout + ended.stderr


def test_a_full_scratch_volume_is_named(desk):
    """A full disk would look like a crash."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    scratch = desk.root / "small"
    scratch.mkdir()
    path = desk.tiny.write(desk.root / "s.yaml", desk.document)
    inner = (
        f"mount -t tmpfs -o size=16k tmpfs {shlex.quote(str(scratch))} || exit 99; "
        + shlex.join([sys.executable, "-m", "strop_job.cli", "run", *map(str, (path, "--store", desk.store))])
        + f" --scratch {shlex.quote(str(scratch))}"
    )
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", inner], capture_output=True, text=True)
    if ended.returncode in (1, 99) and "strop" not in ended.stdout:
        pytest.skip("this machine allows no mounts")
    assert ended.returncode == 14, ended.stdout + ended.stderr
    assert "spec.worker.scratch" in ended.stdout


def test_ctrl_c_leaves_at_the_next_report_and_keeps_what_is_done(desk):
    """A second try would begin at the beginning."""
    document = copy.deepcopy(desk.document)
    document["spec"]["benchmark"] = {"calls": 1_000_000, "maxSeconds": 120}
    path = desk.tiny.write(desk.root / "s.yaml", document)
    command = [sys.executable, "-m", "strop_job.cli", "run", path, "--store", desk.store, "--scratch", desk.root / "t"]
    with subprocess.Popen([str(w) for w in command], stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        for line in process.stdout:
            if "benchmark" in line:
                process.send_signal(2)
                break
        rest = process.stdout.read()
    assert process.returncode == 42, rest
    assert "Evicted" in rest
    assert "would run" in (shown := strop("plan", path, "--store", desk.store).stdout)
    assert shown.count("would run") == 1
