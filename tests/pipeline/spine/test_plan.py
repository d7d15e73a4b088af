"""The plan: its order, what it reads, and that everything this build cannot do is refused by name."""

import pytest

from strop_api.data import DataFormat, DataSource, DataSpec
from strop_api.steps import (
    FineTuneStep,
    MergeStep,
    Precision,
    PruneMethod,
    PruneStep,
    QuantizeMethod,
    QuantizeStep,
    Step,
    StepType,
)
from strop_api.targets import (
    Accelerator,
    Cpu,
    Gates,
    MetricDropGate,
    Output,
    OutputFormat,
    PeakMemoryGate,
    RealisedPrecisionGate,
    Runtime,
    SpeedupGate,
    SpeedupOver,
    Target,
    ThroughputGate,
)
from strop_job.errors import InvalidInput, Unsupported
from strop_job.plan import RESERVED, make_plan
from strop_job.sources import Reach
from strop_job.store.local import LocalStore


def quantize(name="int8", precision=Precision.INT8, method=QuantizeMethod.DYNAMIC):
    return Step(name=name, type=StepType.QUANTIZE, quantize=QuantizeStep(precision=precision, method=method))


def data(**more):
    return DataSpec(evaluation=DataSource(uri="s3://data/tiny/eval.npz", format=DataFormat.NPZ), **more)


CALIBRATION = DataSource(uri="s3://data/tiny/calibration.npz", format=DataFormat.NPZ)
OUT = "s3://engines/tiny"
CPU = Target(name="cpu", runtime=Runtime.ONNX_RUNTIME)


@pytest.fixture
def store(tmp_path):
    """A folder with the files that the specs name, empty: a plan reads none of them."""
    for name in ("models/tiny/model.onnx", "data/tiny/eval.npz", "data/tiny/calibration.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return LocalStore(tmp_path)


@pytest.fixture
def plan(store, spine):
    return lambda **changes: make_plan(spine.make_request(spine.make_spec(**changes)), Reach(store))


REFUSED = [
    ({"targets": [CPU, Target(name="b", runtime=Runtime.ONNX_RUNTIME)]}, "spec.targets"),
    ({"targets": [Target(name="a", runtime=Runtime.OPENVINO)]}, "spec.targets[0].runtime"),
    ({"targets": [Target(name="a", runtime=Runtime.TENSORRT, accelerator=Accelerator())]}, "spec.targets[0].runtime"),
    (
        {"steps": [Step(name="thin", type=StepType.PRUNE, prune=PruneStep(method=PruneMethod.STRUCTURED))]},
        "spec.steps[0].type",
    ),
    (
        {"steps": [quantize(), Step(name="t", type=StepType.FINE_TUNE, fine_tune=FineTuneStep())]},
        "spec.steps[1].type",
    ),
    (
        {"steps": [Step(name="m", type=StepType.MERGE, merge=MergeStep(adapters=["s3://a/b"]))]},
        "spec.steps[0].type",
    ),
    ({"steps": [quantize(method=QuantizeMethod.QAT)]}, "spec.steps[0].quantize.method"),
    ({"steps": [quantize(method=QuantizeMethod.AUTO)]}, "spec.steps[0].quantize.method"),
    (
        {"steps": [quantize(precision=Precision.INT4, method=QuantizeMethod.WEIGHT_ONLY)]},
        "spec.steps[0].quantize.method",
    ),
    ({"output": Output(uri=OUT, formats=[OutputFormat.ENGINE, OutputFormat.TRITON])}, "spec.output.formats"),
    ({"output": Output(uri=OUT, formats=[OutputFormat.OCI])}, "spec.output.formats"),
    ({"gates": Gates(throughput=ThroughputGate(min_per_second=1))}, "spec.gates.throughput"),
    ({"gates": Gates(peak_memory=PeakMemoryGate(max="1Gi"))}, "spec.gates.peakMemory"),
    ({"gates": Gates(realised_precision=RealisedPrecisionGate(min="90%"))}, "spec.gates.realisedPrecision"),
]


@pytest.mark.parametrize(("changes", "field"), REFUSED, ids=[field for _, field in REFUSED])
def test_what_this_build_cannot_do_is_refused_with_its_field(plan, changes, field):
    """A wish would be skipped in silence."""
    with pytest.raises(Unsupported) as refused:
        plan(**changes)
    assert refused.value.field == field
    assert refused.value.message


def test_a_refusal_comes_before_anything_is_looked_up(tmp_path, spine):
    """A missing file would hide what is really wrong."""
    spec = spine.make_spec(targets=[Target(name="a", runtime=Runtime.OPENVINO)])
    with pytest.raises(Unsupported):
        make_plan(spine.make_request(spec), Reach(LocalStore(tmp_path / "nowhere")))


@pytest.mark.parametrize("name", sorted(RESERVED | {"resolve-model", "resolve-x"}))
def test_a_step_named_like_a_stage_is_refused(plan, name):
    """Two stages would share one name."""
    with pytest.raises(InvalidInput) as refused:
        plan(steps=[quantize(name)])
    assert refused.value.field == "spec.steps[0].name"


def test_steps_follow_one_another_and_the_last_graph_is_compiled(plan):
    """A step would be left out of the engine."""
    made = plan(steps=[quantize("first"), quantize("half", Precision.FP16, QuantizeMethod.CAST)])
    needs = {stage.name: stage.needs for stage in made.stages}
    assert needs["first"] == ("export",)
    assert needs["half"] == ("first",)
    assert needs["compile"] == ("half",)
    assert needs["compile-original"] == ("export",)


def test_every_stage_stands_after_what_it_reads(plan):
    """The pipeline would look for a record that cannot be there yet."""
    seen = set()
    for stage in plan(
        steps=[quantize(method=QuantizeMethod.STATIC)],
        data=data(calibration=CALIBRATION),
        gates=Gates(speedup=SpeedupGate(min="1.1", over=SpeedupOver.FP16)),
    ).stages:
        assert set(stage.needs) <= seen
        seen.add(stage.name)


def test_calibration_is_read_and_compared_only_when_a_step_calibrates(plan):
    """Unused data would be copied, or used data not be checked for overlap."""
    calibrated = plan(steps=[quantize(method=QuantizeMethod.STATIC)], data=data(calibration=CALIBRATION))
    plain = plan(steps=[quantize()], data=data(calibration=CALIBRATION))
    assert {"resolve-calibration", "check-data"} <= {s.name for s in calibrated.stages}
    assert not {"resolve-calibration", "check-data"} & {s.name for s in plain.stages}


def test_an_original_without_steps_is_exported_compiled_and_measured(plan):
    """The baseline of everything could not be had alone."""
    assert [s.name for s in plan().stages][-4:] == ["compile", "compile-original", "verify", "benchmark"]


@pytest.mark.parametrize(
    ("over", "target", "measured"),
    [
        (SpeedupOver.FP16, CPU, True),
        (SpeedupOver.ORIGINAL, CPU, False),
        (SpeedupOver.BEST_UNQUANTIZED, CPU, False),
        (SpeedupOver.BEST_UNQUANTIZED, Target(name="g", runtime=Runtime.ONNX_RUNTIME, accelerator=Accelerator()), True),
        (SpeedupOver.BEST_UNQUANTIZED, Target(name="a", runtime=Runtime.ONNX_RUNTIME, cpu=Cpu(arch="arm64")), True),
    ],
)
def test_fp16_is_measured_where_it_may_be_the_baseline(plan, over, target, measured):
    """The speed-up would be held against the wrong baseline."""
    made = plan(gates=Gates(speedup=SpeedupGate(min="1.1", over=over)), targets=[target])
    assert ("compile-fp16" in {s.name for s in made.stages}) is measured


def test_the_optimized_graph_is_published_when_it_is_listed(plan):
    """`formats: [Onnx]` would mean nothing."""
    assert plan(steps=[quantize()], output=Output(uri=OUT, formats=[OutputFormat.ONNX])).companions == ("int8",)
    assert plan(steps=[quantize()]).companions == ()


def test_questionable_choices_are_warned_of(plan):
    """A user would be surprised afterwards."""
    made = plan(steps=[quantize("half", Precision.FP16, QuantizeMethod.CAST)])
    assert any("fp16" in warning for warning in made.warnings)


def test_a_missing_model_is_named_with_its_field(plan, store):
    """A typing error in an address would end in a trace."""
    (store.root / "models/tiny/model.onnx").unlink()
    with pytest.raises(InvalidInput) as missing:
        plan()
    assert missing.value.field == "spec.model.uri"


def test_gates_decide_nothing_but_the_judgement(plan):
    """A changed bound would measure everything again."""
    strict = plan(gates=Gates(metric_drop=MetricDropGate(max_points="0.1")))
    assert [(s.kind, s.parameters) for s in strict.stages] == [(s.kind, s.parameters) for s in plan().stages]
