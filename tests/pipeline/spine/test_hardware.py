"""What this machine is, read from files like the kernel's."""

from dataclasses import replace

import pytest

from strop_api.targets import Accelerator, Cpu, Runtime, Target
from strop_job.errors import Unsupported
from strop_job.hardware import (
    Gpu,
    Hardware,
    _proc_gpus,
    memory_limit,
    mig_slices,
    other_product,
    quota_cores,
    require,
    this_machine,
)

MACHINE = Hardware("amd64", "A CPU", ("avx2",), cores=8, quota_cores=2.5, memory_limit_bytes=None, gpus=(), kernel="6")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.cfs_quota_us": "200000\n", "cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_is_read_in_both_cgroup_versions(tmp_path, files, cores):
    """A benchmark would use threads that are throttled."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert quota_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "1048576\n"}, 1 << 20),
        ({"memory.max": "max\n"}, None),
        ({"memory.limit_in_bytes": "1048576\n"}, 1 << 20),
        ({"memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_the_memory_limit_is_read_in_both_cgroup_versions(tmp_path, files, limit):
    """A stage could not know how much it may hold."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


def test_threads_follow_the_quota_unless_the_target_says_otherwise():
    """Throttled threads measure the throttle."""
    assert MACHINE.threads_for(Target(name="c", runtime=Runtime.ONNX_RUNTIME)) == 2
    assert MACHINE.threads_for(Target(name="c", runtime=Runtime.ONNX_RUNTIME, cpu=Cpu(threads=7))) == 7


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cpu": Cpu(arch="arm64")}, "spec.targets[1].cpu.arch"),
        ({"cpu": Cpu(isa="avx512_vnni")}, "spec.targets[1].cpu.isa"),
        ({"accelerator": Accelerator()}, "spec.targets[1].accelerator"),
    ],
)
def test_another_machine_than_the_targets_is_refused(change, field):
    """A latency would be published that was measured elsewhere."""
    with pytest.raises(Unsupported) as refused:
        require(Target(name="t", runtime=Runtime.ONNX_RUNTIME, **change), 1, MACHINE)
    assert refused.value.field == field


def test_the_fingerprint_changes_with_the_threads():
    """Measurements with other threads would be taken over."""
    one, two = (Target(name="t", runtime=Runtime.ONNX_RUNTIME, cpu=Cpu(threads=n)) for n in (1, 2))
    assert MACHINE.fingerprint(one) != MACHINE.fingerprint(two)


def test_a_gpu_is_found_in_the_drivers_files_without_its_tool(tmp_path):
    """A container without nvidia-smi would look like a CPU machine."""
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Fri Jan\n")
    (tmp_path / "gpus" / "0").mkdir(parents=True)
    (tmp_path / "gpus" / "0" / "information").write_text("Model: \t\t NVIDIA L4\nIRQ: 1\n")
    [gpu] = _proc_gpus(tmp_path)
    assert (gpu.name, gpu.driver) == ("NVIDIA L4", "570.86.15")


def test_this_machine_can_be_described():
    """Nothing could be measured here."""
    here = this_machine()
    assert here.cores >= here.threads >= 1
    assert here.cpu_model


@pytest.mark.parametrize(
    ("product", "name", "other"),
    [
        ("NVIDIA-L4", "NVIDIA L4", False),
        ("NVIDIA-H100-80GB-HBM3-SHARED", "NVIDIA H100 80GB HBM3", False),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "NVIDIA A100-SXM4-40GB", False),
        ("Tesla-T4", "Tesla T4", False),
        ("NVIDIA-L4", "NVIDIA H100 80GB HBM3", True),
        ("NVIDIA-L4", "NVIDIA L40S", True),
        ("NVIDIA-L40S", "NVIDIA L4", True),
        (None, "NVIDIA H100 80GB HBM3", False),
    ],
)
def test_a_device_of_another_product_is_told(product, name, other):
    """A node with a wrong label would give the figures of another device without a word."""
    machine = replace(MACHINE, gpus=(Gpu(name, "580"),))
    found = other_product(Target(name="g", runtime=Runtime.TENSORRT, accelerator=Accelerator(product=product)), machine)
    assert (found is not None) is other
    if found:
        assert product in found
        assert name in found


def test_a_target_built_ahead_of_time_asks_for_no_device():
    """TensorRT-RTX builds for named compute capabilities without a GPU."""
    fields = {"name": "r", "runtime": "TensorRTRTX", "tensorRTRTX": {"computeCapabilities": ["8.9"]}}
    require(Target.model_validate(fields), 0, MACHINE)
    with pytest.raises(Unsupported, match="no NVIDIA driver"):
        require(Target(name="r", runtime=Runtime.TENSORRT_RTX, accelerator=Accelerator()), 0, MACHINE)


@pytest.mark.parametrize(("isa", "found"), [(("avx2",), False), (("avx2", "avx512_vnni"), True), (("avx_vnni",), True)])
def test_vnni_is_known_by_any_of_its_names(isa, found):
    """Weights would keep to 7 bits where all 8 are right, or the reverse."""
    assert replace(MACHINE, isa=isa).has_vnni is found


def test_slices_of_one_device_are_told_apart() -> None:
    """A figure of seven slices would be taken from the records for one."""
    listed = (
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)\n"
        "  MIG 1g.5gb      Device  0: (UUID: MIG-1)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)\n"
    )
    assert mig_slices(listed) == (("1g.5gb",), ())
    assert mig_slices("") == ()
    whole, part = Gpu("NVIDIA A100", "570", 40_960, "8.0"), Gpu("NVIDIA A100", "570", 40_960, "8.0", ("1g.5gb",))
    assert str(whole) == "NVIDIA A100 570 8.0"
    assert str(whole) != str(part)
