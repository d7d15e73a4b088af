"""The plan: its order, what it reads, and that everything this build cannot do is refused by name."""

from dataclasses import replace

import pytest

from strop_api.data import DataFormat, DataSource, DataSpec
from strop_api.optimization import ModelOptimizationSpec
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
    Runtime,
    SpeedupGate,
    SpeedupOver,
    Target,
    TensorRTRTXOptions,
)
from strop_job.baselines import half_baseline, without_sparsity
from strop_job.errors import InvalidInput, Unsupported
from strop_job.hardware import Gpu, this_machine
from strop_job.plan import RESERVED, make_plan
from strop_job.sources import Reach
from strop_job.stages import StageContext
from strop_job.steps.quantize import quantize_stage
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
    return lambda hardware=None, **changes: make_plan(
        spine.make_request(spine.make_spec(**changes)), Reach(store), hardware
    )


REFUSED = [
    ({"targets": [CPU, Target(name="b", runtime=Runtime.ONNX_RUNTIME)]}, "spec.targets"),
    (
        {"targets": [Target(name="a", runtime=Runtime.OPENVINO, accelerator=Accelerator())]},
        "spec.targets[0].accelerator",
    ),
    ({"targets": [CPU.model_copy(update={"optional": True})]}, "spec.targets[0].optional"),
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
    spec = spine.make_spec(steps=[quantize(method=QuantizeMethod.QAT)])
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


AMD64 = replace(this_machine(), arch="amd64", isa=("avx2", "avx512_vnni"), gpus=())
BF16 = replace(AMD64, isa=("avx512_bf16",))
ARM64 = replace(AMD64, arch="arm64", isa=("asimddp",))
L4 = replace(AMD64, gpus=(Gpu("NVIDIA L4", "580.1", 23_034, "8.9"),))
GPU = Target(name="g", runtime=Runtime.ONNX_RUNTIME, accelerator=Accelerator())
BEST, FP16 = SpeedupOver.BEST_UNQUANTIZED, SpeedupOver.FP16


@pytest.mark.parametrize(
    ("over", "target", "hardware", "timed"),
    [
        (FP16, CPU, AMD64, "fp16"),
        (SpeedupOver.ORIGINAL, GPU, L4, None),
        (BEST, CPU, AMD64, None),
        (BEST, GPU, L4, "fp16"),
        (BEST, Target(name="a", runtime=Runtime.ONNX_RUNTIME, cpu=Cpu(arch="arm64")), ARM64, "fp16"),
        (BEST, Target(name="o", runtime=Runtime.OPENVINO), AMD64, None),
        (BEST, Target(name="o", runtime=Runtime.OPENVINO), replace(AMD64, isa=("amx_fp16",)), "fp16"),
        (BEST, Target(name="o", runtime=Runtime.OPENVINO), ARM64, "fp16"),
        (BEST, Target(name="t", runtime=Runtime.TENSORRT, accelerator=Accelerator()), L4, "fp16"),
    ],
)
def test_a_16_bit_variant_is_timed_where_it_may_be_the_best_unquantized_one(plan, over, target, hardware, timed):
    """The speed-up would be held against the wrong baseline, and be flattered."""
    made = plan(hardware=hardware, gates=Gates(speedup=SpeedupGate(min="1.1", over=over)), targets=[target])
    names = {stage.name for stage in made.stages}
    assert {name for name in names if name.startswith(("cast-", "compile-"))} == {
        "compile-original", *((f"cast-{timed}", f"compile-{timed}") if timed else ())
    }  # fmt: skip
    assert made.notes
    if over is BEST:
        assert plan(hardware=hardware, targets=[target]).kinds.keys() == names, (
            "no gate: the same baseline is spoken of"
        )


def test_a_baseline_that_fails_speaks_of_itself_and_not_of_a_step(plan, monkeypatch):
    """The user would mend a step that has nothing to do with it."""

    def fail(context):
        raise InvalidInput("weight `w` does not fit", field="spec.steps[0].quantize", mend="excludeNodes")

    def failing(*args):
        return replace(quantize_stage(*args), run=fail)

    monkeypatch.setattr("strop_job.plan.quantize_stage", failing)
    stages = {stage.name: stage for stage in plan(hardware=L4, targets=[GPU], steps=[quantize()]).stages}
    with pytest.raises(InvalidInput, match=r"gates\.speedup\.over: the FP16 baseline cannot be made: weight `w`"):
        stages["cast-fp16"].run(None)
    with pytest.raises(InvalidInput, match=r"steps\[0\]"):
        stages[quantize().name].run(None)


@pytest.mark.parametrize(("hardware", "timed"), [(AMD64, False), (BF16, True)])
def test_inductor_is_held_against_bf16_where_the_processor_multiplies_it(hardware, timed):
    """It has no FP16, and FP32 is not its best."""
    spec = ModelOptimizationSpec.model_construct(gates=Gates(), steps=[])
    found = half_baseline(spec, Target(name="i", runtime=Runtime.INDUCTOR), hardware)
    assert found.variant == ("bf16" if timed else None)


def sparse(runtime, **more):
    """A target with `sparseWeights`, on a device."""
    options = {"tensorRT": {"sparseWeights": True, "workspace": "1Gi"}}
    if runtime is Runtime.TENSORRT_RTX:
        options = {"tensorRTRTX": {"sparseWeights": True, "computeCapabilities": ["8.9"]}}
    return Target.model_validate({"name": "s", "runtime": runtime.value, "accelerator": {}, **options, **more})


@pytest.mark.parametrize("runtime", [Runtime.TENSORRT, Runtime.TENSORRT_RTX])
def test_sparse_weights_are_timed_against_the_same_engine_without_them(plan, runtime):
    """The flag would be believed to help, which it seldom does."""
    made = plan(hardware=L4, targets=[sparse(runtime)], steps=[quantize("half", Precision.FP16, QuantizeMethod.CAST)])
    stages = {stage.name: stage for stage in made.stages}
    dense, engine = stages["compile-dense"], stages["compile"]
    assert dense.needs == engine.needs == ("half",)
    assert dense.parameters != engine.parameters
    options = [
        next(v for k, v in s.parameters["target"].items() if k.startswith("tensorRT") and v) for s in (dense, engine)
    ]
    assert [chosen["sparseWeights"] for chosen in options] == [False, True]
    assert {k: v for k, v in options[0].items() if k != "sparseWeights"} == {
        k: v for k, v in options[1].items() if k != "sparseWeights"
    }
    assert stages["benchmark"].parameters["variants"]["dense"] == "compile-dense"
    assert "compile-dense" in stages["benchmark"].needs
    assert any("without sparseWeights" in note for note in made.notes)


def test_the_second_engine_is_compiled_for_its_own_options(plan, monkeypatch, tmp_path):
    """Both would be the same engine, and the flag never be found to help."""
    asked = []

    class Compiler:
        def compile(self, work):
            asked.append(work.target)

    target = sparse(Runtime.TENSORRT)
    made = plan(hardware=L4, targets=[target])
    monkeypatch.setattr("strop_job.steps.compile.backend_for", lambda runtime: Compiler())
    monkeypatch.setattr("strop_job.steps.compile.this_machine", lambda: L4)
    context = StageContext(made.request, tmp_path, {"export": None}, lambda share, message: None)
    for name in ("compile", "compile-dense"):
        next(stage for stage in made.stages if stage.name == name).run(context)
    assert asked == [target, without_sparsity(target)]
    assert asked[1].tensorrt.sparse_weights is False


def test_where_nothing_is_measured_the_flag_is_said_to_be_unknown(plan):
    """A second engine that nobody times costs a build and says nothing."""
    ahead = sparse(Runtime.TENSORRT_RTX).model_copy(update={"accelerator": None})
    made = plan(hardware=AMD64, targets=[ahead], steps=[quantize("half", Precision.FP16, QuantizeMethod.CAST)])
    assert "compile-dense" not in made.kinds
    assert any("whether sparseWeights helps is not known" in note for note in made.notes)


def test_an_engine_in_fp16_is_held_against_the_original(plan):
    """It would be compared with itself, and never be faster."""
    half = quantize("half", Precision.FP16, QuantizeMethod.CAST)
    made = plan(hardware=L4, targets=[GPU], steps=[half])
    assert "compile-fp16" not in made.kinds
    assert any("16-bit" in note for note in made.notes)


AHEAD = TensorRTRTXOptions(compute_capabilities=["8.9"])
RTX = Target(name="rtx", runtime=Runtime.TENSORRT_RTX, tensorrt_rtx=AHEAD, accelerator=Accelerator())
H100 = replace(AMD64, gpus=(Gpu("NVIDIA H100", "580.1", 81_559, "9.0"),))


@pytest.mark.parametrize(
    ("target", "hardware", "why"),
    [
        (RTX, AMD64, "no NVIDIA driver is visible here"),
        (RTX, H100, "the device here has 9.0"),
        (RTX.model_copy(update={"accelerator": None}), L4, "asks for no accelerator"),
    ],
)
def test_an_engine_built_for_another_machine_is_neither_verified_nor_timed(plan, target, hardware, why):
    """Figures of another engine, or of none, would stand for it."""
    made = plan(hardware=hardware, targets=[target], steps=[quantize(method=QuantizeMethod.STATIC)],
                data=data(calibration=CALIBRATION))  # fmt: skip
    assert not made.measurable
    assert why in made.unmeasured
    assert not {"verify", "benchmark", "compile-original"} & made.kinds.keys()
    assert [s.name for s in made.stages][-2:] == ["compile", "check-graph"]
    assert made.companions == ()


def test_the_same_spec_is_measured_where_the_device_is(plan):
    """Built, not measured would be the end of it even on the machine that it was built for."""
    made = plan(hardware=L4, targets=[RTX])
    assert made.measurable
    assert {"verify", "benchmark"} <= made.kinds.keys()


@pytest.mark.parametrize(
    ("target", "stage"),
    [
        (Target(name="o", runtime=Runtime.OPENVINO), "verify"),
        (RTX, "verify"),
        (RTX, "compile"),
        (GPU.model_copy(update={"runtime": Runtime.TENSORRT}), "compile"),
    ],
)
def test_what_computes_the_references_is_part_of_the_key(plan, target, stage):
    """Parity found with one ONNX Runtime would be told of another, whose graphs compute something else."""
    stages = {made.name: made for made in plan(hardware=L4, targets=[target]).stages}
    assert {"onnxruntime", "onnxruntime-gpu", "onnx"} <= set(stages[stage].libraries)


def test_each_stage_says_what_it_yields(plan):
    """Nobody could see where a graph becomes another kind of graph."""
    asked = {"steps": [quantize(method=QuantizeMethod.STATIC)], "data": data(calibration=CALIBRATION)}
    made = plan(targets=[Target(name="o", runtime=Runtime.OPENVINO)], **asked)
    assert {name: str(made.kinds[name]) for name in ("resolve-model", "export", "int8", "compile", "verify")} == {
        "resolve-model": "Source", "export": "OnnxGraph", "int8": "OpenVinoIR", "compile": "Engine",
        "verify": "Measurement",
    }  # fmt: skip


def test_a_step_named_like_a_stage_of_this_very_run_is_refused(plan):
    """Two stages would share one name, which most runs do not have."""
    with pytest.raises(InvalidInput) as refused:
        plan(hardware=AMD64, targets=[RTX], steps=[quantize("check-graph")])
    assert refused.value.field == "spec.steps[0].name"


def test_the_optimized_graph_is_published_when_it_is_listed(plan):
    """`formats: [Onnx]` would mean nothing."""
    assert plan(steps=[quantize()], output=Output(uri=OUT, formats=[OutputFormat.ONNX])).companions == ("int8",)
    assert plan(steps=[quantize()]).companions == ()


def test_questionable_choices_are_warned_of(plan):
    """A user would be surprised afterwards."""
    made = plan(steps=[quantize("half", Precision.FP16, QuantizeMethod.CAST)])
    assert any("fp16" in found.message for found in made.findings)


def test_a_missing_model_is_named_with_its_field(plan, store):
    """A typing error in an address would end in a trace."""
    (store.root / "models/tiny/model.onnx").unlink()
    with pytest.raises(InvalidInput) as missing:
        plan()
    assert missing.value.field == "spec.model.uri"


def test_gates_decide_nothing_but_the_judgement(plan):
    """A changed bound would measure everything again."""
    strict = plan(gates=Gates(metric_drop=MetricDropGate(max_points="0.1")))
    others = [[(s.kind, s.parameters) for s in made.stages if s.kind != "AuditGates"] for made in (strict, plan())]
    assert others[0] == others[1]
