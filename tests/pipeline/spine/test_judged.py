"""Runs whose judgement takes more than one figure: groups of samples, further looks, and an end before the engine."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from strop_api.result import Outcome
from strop_api.status import GateVerdict
from strop_job.errors import Evicted
from strop_job.hardware import this_machine
from strop_job.local import Wishes, read_request
from strop_job.pipeline import run
from strop_job.plan import make_plan
from strop_job.progress import Silent
from strop_job.sources import Reach
from strop_job.stages import Artifact, ArtifactKind
from strop_job.store.local import LocalStore
from strop_job.walk import Shop, records_of

SETS = ("evaluation", "calibration")


class Desk:
    """A folder store with the tiny problem."""

    def __init__(self, root, tiny, strop):
        self.root, self.tiny, self.strop = root, tiny, strop
        self.store = root / "out"
        self.document = tiny.lay_out(self.store)

    def arrays(self, role):
        return self.store / "data" / "tiny" / f"{role}.npz"

    def rewrite(self, role, **changes):
        with np.load(self.arrays(role)) as kept:
            np.savez(self.arrays(role), **(dict(kept) | changes))

    def write(self, change):
        document = copy.deepcopy(self.document)
        change(document["spec"])
        return self.tiny.write(self.root / "spec.yaml", document)

    def run(self, change, **environment):
        words = ("--store", self.store, "--scratch", self.root / "scratch")
        return self.strop("run", self.write(change), *words, **environment)

    def report(self):
        [path] = (self.store / "strop-records/team/reports").glob("*/report.json")
        return json.loads(path.read_text())


@pytest.fixture
def desk(tmp_path, tiny, spine):
    return Desk(tmp_path, tiny, spine.strop)


def records(desk):
    found = (desk.store / "strop-records/team/records").glob("*.json")
    return [(path.stem, json.loads(path.read_text())) for path in found]


# --- groups ---------------------------------------------------------------------------------------------------------


def grouped(desk, groups, *, shared=False):
    """Both sets say of which document each sample is."""
    for role in SETS:
        names = [f"{'document' if shared else role}-{n * groups // 200}" for n in range(200)]
        desk.rewrite(role, document=np.array(names))

    def change(spec):
        for role in SETS:
            spec["data"][role]["groups"] = "document"
        spec["gates"] = {"metricDrop": {"maxPoints": "20", "confidence": "95%"}}

    return change


def test_a_confidence_over_groups_is_held_to_by_a_whole_run(desk):
    """Samples of one document would pass for independent ones."""
    ended = desk.run(grouped(desk, 40))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = desk.report()
    drop = next(gate for gate in told["gates"] if gate["gate"] == "metricDrop")
    assert "at 95% confidence at most" in drop["message"]
    assert float(drop["high"]) <= 20
    assert "40 groups" in told["metricMethod"]
    assert told["provenance"]["evaluation"]["readers"] == ["check-data", "audit-gates", "audit-calibration", "verify"]


@pytest.mark.parametrize(("groups", "shared"), [(5, False), (40, True)])
def test_groups_that_bear_no_confidence_end_a_run_before_anything_is_made(desk, groups, shared):
    """Five documents, or documents that calibration had seen, would bear a certainty that they cannot."""
    ended = desk.run(grouped(desk, groups, shared=shared))
    assert ended.returncode == 11, ended.stdout + ended.stderr
    assert "spec.data." in ended.stdout
    assert "+ compile" not in ended.stdout
    assert not (desk.store / "engines").exists()


def test_what_was_not_known_beforehand_is_not_said_once_it_was_measured(desk):
    """A reader of the report would be told that nothing tells what stands beside it."""

    def change(spec):
        spec["task"]["metric"] = "f1_macro"
        spec["gates"] = {"metricDrop": {"maxPoints": "20", "confidence": "95%"}}

    ended = desk.run(change)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [audit] = [made for _, made in records(desk) if made["madeFrom"]["stage"] == "audit-gates"]
    assert [found["check"] for found in audit["facts"]["findings"]] == ["gate-power-unknown"]
    assert "gate-power-unknown" not in {found["check"] for found in desk.report().get("findings", [])}


# --- an end before the engine ---------------------------------------------------------------------------------------


def test_a_run_that_ends_at_the_gate_on_calibration_data_says_what_it_never_reached(desk):
    """Gates that had nothing to hold would read as if something had failed to be measured."""
    with np.load(desk.arrays("calibration")) as kept:
        desk.rewrite("calibration", x=kept["x"] * 40 + 7)
    ended = desk.run(
        lambda spec: spec["gates"].update(calibration={"maxMismatches": 0}, size={"max": "1Gi"}), COLUMNS="80"
    )
    assert ended.returncode == 10, ended.stdout + ended.stderr
    assert not (desk.store / "engines").exists()
    assert "int8" not in {stage["name"] for stage in desk.report()["stages"]}
    verdicts = {gate["gate"]: gate for gate in desk.report()["gates"]}
    assert verdicts.pop("calibration")["verdict"] == "Missed"
    assert set(verdicts) == {"compileParity", "metricDrop", "size"}
    assert all(gate["verdict"] == "NotMeasured" for gate in verdicts.values())
    assert all(gate["message"].startswith("not reached: ") for gate in verdicts.values())
    assert "precision not inspected" not in ended.stdout
    assert not desk.report()["realisedPrecision"]
    [page] = (desk.store / "strop-records/team/reports").glob("*/report.html")
    assert "Gate missed: Calibration data" in page.read_text()


# --- looks ----------------------------------------------------------------------------------------------------------

FASTER, MOOD = 1.243, 0.11
"""How much faster the engine is, and how far whole rounds of calls wander."""


class Timer:
    """Stands for the clock: each look yields samples that were drawn beforehand."""

    def __init__(self):
        self.taken = []
        self.killed = False

    def stage(self, stage, look):
        return replace(stage, run=lambda context: self._time(context, look))

    def _time(self, context, look):
        if look == 2 and self.killed:
            raise Evicted("stopped by SIGTERM")
        self.taken.append(look)
        random, calls = np.random.default_rng(look), 400
        rounds = np.arange(calls) // 10
        arrays = {}
        for name, median in (("optimized", 1000.0), ("original", 1000.0 * FASTER)):
            drawn = np.repeat(random.lognormal(0, MOOD, 40), 10) * random.lognormal(0, 0.02, calls)
            arrays |= {name: median * drawn / np.median(drawn), f"{name}.rounds": rounds}
        np.savez(context.folder / "latencies.npz", **arrays)
        facts = {"batch": 4, "mostBatch": 16, "rounds": 40, "callsPerTurn": 10, "variants": {}}
        return Artifact(ArtifactKind.MEASUREMENT, context.folder, ("latencies.npz",), facts)


@pytest.fixture
def timed(desk):
    """A run with a gate on speed, over samples that the first look leaves open: the timer, and how to run."""
    path = desk.write(
        lambda spec: spec.update(gates={"speedup": {"min": "1.2", "over": "Original", "confidence": "95%"}})
    )
    request = read_request(path, Wishes(str(desk.store)))
    store, timer = LocalStore(desk.store), Timer()
    made = make_plan(request, Reach(store, command_line=True))
    stages = tuple(timer.stage(one, 1) if one.name == made.benchmark else one for one in made.stages)
    looks = tuple(timer.stage(one, number) for number, one in enumerate(made.looks, start=2))
    plan = replace(made, stages=stages, looks=looks)

    def carry_out(**changes):
        timer.taken.clear()
        return run(plan, Shop(store, records_of(request, store), desk.root / "scratch", Silent(), **changes))

    return timer, carry_out


def speedup(finished):
    return next(gate for gate in finished.judgement.gates if gate.gate == "speedup")


def test_a_look_that_was_killed_is_taken_up_where_it_ended(timed, desk):
    """Every attempt would time everything again, or a sweep would remove what a look had measured."""
    timer, carry_out = timed
    timer.killed = True
    assert carry_out().outcome is Outcome.EVICTED
    assert timer.taken == [1]
    timer.killed = False
    finished = carry_out()
    assert timer.taken == [2]
    assert (finished.outcome, speedup(finished).verdict) == (Outcome.PUBLISHED, GateVerdict.PASSED)
    assert speedup(finished).message.endswith("look 2 of at most 3")
    assert desk.report()["conditions"]["looks"] == 2
    assert desk.report()["conditions"]["rounds"] == 80
    [noted] = (desk.store / "strop-records/team/runs").glob("*.json")
    [record] = [key for key, made in records(desk) if made["madeFrom"]["stage"] == "benchmark-2"]
    assert record in json.loads(noted.read_text())["records"]


def test_another_machine_goes_on_with_every_look_that_was_claimed(timed, desk):
    """The figures would be of the first look alone, and the gate that passed be open again."""
    timer, carry_out = timed
    before = carry_out()
    assert timer.taken == [1, 2]
    [result] = (desk.store / "strop-records/team/reports").glob("*/result.json")
    result.unlink()
    finished = carry_out(answer_published=True, hardware=replace(this_machine(), cpu_model="Another"))
    assert timer.taken == []
    assert finished.outcome is Outcome.PUBLISHED
    assert speedup(finished) == speedup(before)
