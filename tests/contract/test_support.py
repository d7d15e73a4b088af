"""The support table: complete, and the same for admission, the quantizers, the images and the page."""

import copy
import tomllib
from itertools import product

import pytest
from tests.contract.documents import MINIMAL, Document
from tests.contract.server import ROOT

from strop_api.model import ModelFormat
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules import RULES, check_support
from strop_api.rules.retired import RETIREMENTS
from strop_api.rules.runtimes import OPTIONS
from strop_api.runtimes_page import DEVICES
from strop_api.steps import QuantizeMethod
from strop_api.support import (
    EXTRAS,
    INTEGER_FORMATS,
    LEAST_CAPABILITIES,
    METHODS,
    NODE_FEATURES,
    OUTPUTS,
    QUANTIZATIONS,
    RETIRED,
    RTX_CAPABILITIES,
    SOURCES,
    THIS_BUILD,
    VNNI,
    IntegerFormat,
    integer_format,
    reduced_range,
)
from strop_api.targets import OutputFormat, Runtime
from strop_job.backends import TRAITS
from strop_job.hardware import ISA_FLAGS

U8S8, S8S8 = IntegerFormat.U8S8, IntegerFormat.S8S8


@pytest.mark.parametrize("table", [QUANTIZATIONS, OUTPUTS, SOURCES, EXTRAS, OPTIONS, DEVICES, TRAITS])
def test_every_runtime_has_a_row(table: dict[Runtime, object]) -> None:
    """A runtime without a row would fail where the table is read, in the middle of a run."""
    assert table.keys() == set(Runtime)


def test_the_engine_is_among_the_outputs_of_every_runtime() -> None:
    """It is always published."""
    assert all(OutputFormat.ENGINE in formats for formats in OUTPUTS.values())


def test_this_build_serves_every_runtime_with_some_precision() -> None:
    """A runtime that is served and takes no Quantize step would be of no use."""
    assert THIS_BUILD.runtimes == set(Runtime)
    for runtime in Runtime:
        assert THIS_BUILD.quantizations & set(QUANTIZATIONS[runtime]), runtime
    later = {pair.method for pairs in QUANTIZATIONS.values() for pair in pairs} - {
        pair.method for pair in THIS_BUILD.quantizations
    }
    assert later == {QuantizeMethod.QAT, QuantizeMethod.AUTO}


def test_every_method_is_explained() -> None:
    """The page would lack a line, or fail."""
    assert METHODS.keys() == set(QuantizeMethod)


def test_what_four_bits_do_to_activations_is_told() -> None:
    """ONNX Runtime's product rounds them, which costs accuracy that "weights only" would not lead anyone to expect."""
    assert "on ONNX Runtime, whose product rounds them to 8-bit integers" in METHODS[QuantizeMethod.WEIGHT_ONLY]


@pytest.mark.parametrize(
    ("runtime", "accelerated", "arch", "format_"),
    [
        (Runtime.ONNX_RUNTIME, False, "amd64", U8S8),
        (Runtime.ONNX_RUNTIME, False, "arm64", S8S8),
        (Runtime.ONNX_RUNTIME, True, "amd64", S8S8),
        (Runtime.OPENVINO, False, "amd64", U8S8),
        (Runtime.INDUCTOR, False, "amd64", U8S8),
        (Runtime.INDUCTOR, True, "amd64", S8S8),
        (Runtime.TENSORRT, True, "amd64", S8S8),
        (Runtime.TENSORRT_RTX, True, "amd64", S8S8),
        (Runtime.TENSORRT_RTX, False, "amd64", S8S8),
    ],
)
def test_the_integer_format_follows_the_target(
    runtime: Runtime, accelerated: bool, arch: str, format_: IntegerFormat
) -> None:
    """S8S8 on an x86 processor loses all of the gain, and TensorRT refuses U8S8."""
    assert integer_format(runtime, accelerated=accelerated, arch=arch) is format_


def test_every_row_of_the_integer_formats_decides_something() -> None:
    """A row behind one that takes all would be read by people and by nobody else."""
    targets = list(product(Runtime, (True, False), ("amd64", "arm64")))
    deciding = [next(row for row in INTEGER_FORMATS if row.fits(*target)) for target in targets]
    assert all(row in deciding for row in INTEGER_FORMATS)


def test_weights_keep_to_seven_bits_where_products_saturate() -> None:
    """A U8S8 graph with full weights answers wrongly on an amd64 processor without VNNI, and without any error."""
    assert reduced_range(Runtime.ONNX_RUNTIME, "amd64", ["avx2", "avx512f"])
    assert reduced_range(Runtime.INDUCTOR, "amd64", [])
    for isa in VNNI:
        assert not reduced_range(Runtime.ONNX_RUNTIME, "amd64", ["avx2", isa])
    assert not reduced_range(Runtime.ONNX_RUNTIME, "arm64", ["asimddp"])
    assert not reduced_range(Runtime.TENSORRT, "amd64", [])


def test_instruction_sets_are_named_as_the_worker_names_them() -> None:
    """A name that the worker does not read would be refused on every node, whatever its label."""
    assert set(NODE_FEATURES) | VNNI <= ISA_FLAGS


def test_the_extra_of_a_runtime_is_one_of_the_distribution() -> None:
    """The page and the worker's refusals tell people what to install."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for runtime, traits in TRAITS.items():
        assert traits.extra in EXTRAS[runtime]
        assert set(EXTRAS[runtime]) <= declared.keys()


def test_the_least_capabilities_are_capabilities() -> None:
    """A bound that no device has would refuse all of them, or none."""
    assert set(LEAST_CAPABILITIES.values()) <= set(RTX_CAPABILITIES)
    assert sorted(RTX_CAPABILITIES, key=float) == list(RTX_CAPABILITIES)


def test_a_retired_name_is_no_living_one() -> None:
    """A word in both lists would be refused although it is served."""
    living = {*Runtime, *ModelFormat}
    assert not living & RETIRED["spec.targets[].runtime"].keys()
    assert not set(OutputFormat) & RETIRED["spec.output.formats[]"].keys()
    for names in RETIRED.values():
        assert all(entry.why and entry.instead for entry in names.values())


def test_a_rule_on_a_retired_name_refuses_that_name_alone() -> None:
    """Python parses before it asks the rules: only here is the Python of these seen to refuse."""
    assert set(RETIREMENTS) <= set(RULES)
    assert len(RETIREMENTS) == sum(len(names) for names in RETIRED.values())
    for rule in RETIREMENTS:
        name = rule.name.removeprefix("no-")
        assert not rule.holds(name)
        assert rule.holds("ONNXRuntime")


@pytest.mark.parametrize(
    ("target", "quantize", "field"),
    [
        ({"runtime": "OpenVINO"}, {"calibrator": "Entropy"}, "spec.steps[0].quantize.calibrator"),
        ({"runtime": "Inductor", "accelerator": {}}, {}, "spec.steps[0].quantize.precision"),
        ({"runtime": "Inductor", "cpu": {"arch": "arm64"}}, {}, "spec.steps[0].quantize.precision"),
        ({"runtime": "Inductor"}, {"perChannel": False}, "spec.steps[0].quantize.perChannel"),
    ],
)
def test_what_one_quantizer_lacks_is_refused_before_any_work(target: Document, quantize: Document, field: str) -> None:
    """The worker would find out after the export and the calibration."""
    spec = copy.deepcopy(MINIMAL["spec"])
    spec["targets"] = [{"name": "t", **target}]
    spec["steps"] = [{"name": "int8", "type": "Quantize"}]
    spec["steps"][0]["quantize"] = {"precision": "int8", "method": "Static", **quantize}
    problems = check_support(ModelOptimizationSpec.model_validate(spec), THIS_BUILD)
    assert [problem.path for problem in problems] == [field], problems
