"""What a plan needs to be loaded, and why it is not loaded elsewhere."""

import pytest

from strop_api.targets import HardwareCompatibility
from strop_job.backends.tensorrt.needs import Device, needs, obstacle, rebuild
from strop_job.backends.tensorrt.options import BuildOptions, options_of
from strop_job.baselines import without_sparsity
from strop_job.stages import Facts

from .conftest import rtx_target, trt_target

L4, A100, T4 = Device("NVIDIA L4", "8.9"), Device("NVIDIA A100", "8.0"), Device("Tesla T4", "7.5")


PLAIN = BuildOptions()


def plan(options: BuildOptions = PLAIN, version: str = "11.4.0.106", device: Device | None = L4) -> Facts:
    """Facts of a plan that TensorRT built."""
    return {"runtime": "tensorrt", "version": version, **needs("TensorRT", version, options, device)}


def told(facts: Facts, version: str = "11.4.0.106", device: Device = L4, name: str = "tensorrt") -> str:
    label = "TensorRT" if name == "tensorrt" else "TensorRT-RTX"
    return obstacle(facts, name, label, version, device)


def test_a_plan_runs_where_it_was_built() -> None:
    """The ordinary case; another build of the same release loads it too."""
    assert told(plan()) == ""
    assert told(plan(), version="11.4.0.200") == ""


def test_a_plan_of_another_release_is_explained_before_it_is_loaded() -> None:
    """TensorRT itself only says that a version tag does not match."""
    assert told(plan(version="11.3.1.5")) == (
        "the engine was built by TensorRT 11.3.1.5, here is TensorRT 11.4.0.106; it loads in TensorRT 11.3.1 alone"
    )


@pytest.mark.parametrize(("here", "loads"), [("11.5.0.1", True), ("11.3.0.1", False), ("12.0.0.1", False)])
def test_a_version_compatible_plan_loads_in_later_releases_of_the_same_major(here: str, loads: bool) -> None:
    """What the option promises, and no more: NVIDIA's page on engine compatibility."""
    facts = plan(BuildOptions(version_compatible=True))
    assert "engine_host_code_allowed" in str(facts["loadsIn"])
    assert (told(facts, version=here) == "") is loads


def test_another_generation_of_devices_is_explained() -> None:
    """The library's message names numbers of streaming multiprocessors; a user needs the two capabilities."""
    assert told(plan(), device=A100) == (
        "the engine was built for compute capability 8.9, and this device (NVIDIA A100) has 8.0"
    )


@pytest.mark.parametrize(("device", "runs"), [(A100, True), (T4, False)])
def test_ampere_plus_runs_on_ampere_and_above(device: Device, runs: bool) -> None:
    """The hardware-compatible mode widens where a plan runs, but not to Turing."""
    facts = plan(BuildOptions(hardware=HardwareCompatibility.AMPERE_PLUS))
    assert (told(facts, device=device) == "") is runs
    assert facts["runsOn"] == "devices of compute capability 8.0 and above"


def test_a_plan_of_one_library_is_not_offered_to_the_other() -> None:
    """An RTX plan is no TensorRT plan, however alike the files look."""
    facts = {**plan(), "runtime": "tensorrt-rtx"}
    assert "built by tensorrt-rtx, and TensorRT loads only its own" in told(facts)


def test_a_plan_from_elsewhere_is_left_to_the_library() -> None:
    """Without facts nothing is known, so nothing is claimed."""
    assert told({}) == ""


def test_only_an_ahead_of_time_build_is_called_deterministic() -> None:
    """TensorRT chooses kernels by timing them; calling that deterministic would be false."""
    ahead = BuildOptions(capabilities=("8.9",))
    assert rebuild(True, ahead, None)["deterministic"] is True
    assert rebuild(True, BuildOptions(), L4)["deterministic"] is None
    assert rebuild(False, BuildOptions(), L4)["deterministic"] is False


def test_every_option_of_the_spec_reaches_the_builder() -> None:
    """An option that is read and dropped would be promised by the API and never happen."""
    asked = trt_target(
        workspace="1Gi", sparseWeights=True, versionCompatible=True, hardwareCompatibility="AmperePlus",
        refittable=True, stripped=True, timingCache=False, optimizationLevel=5, tf32=False,
    )  # fmt: skip
    assert options_of(asked) == BuildOptions(
        workspace_bytes=1 << 30, sparse_weights=True, version_compatible=True,
        hardware=HardwareCompatibility.AMPERE_PLUS, refittable=True, stripped=True, timing_cache=False,
        optimization_level=5, tf32=False,
    )  # fmt: skip
    rtx = options_of(rtx_target("8.9", workspace="1M", sparseWeights=True))
    assert (rtx.workspace_bytes, rtx.sparse_weights, rtx.capabilities) == (1_000_000, True, ("8.9",))


def test_the_variant_without_sparsity_differs_in_nothing_else() -> None:
    """It is what shows whether the flag helped: any other difference would be measured with it."""
    asked = trt_target(sparseWeights=True, workspace="1Gi")
    assert without_sparsity(asked) == trt_target(sparseWeights=False, workspace="1Gi")
