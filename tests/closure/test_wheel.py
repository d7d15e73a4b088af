"""Each extra, installed from the wheel into an environment of its own, holds all that its part needs and no more."""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)


def run(*words: object) -> str:
    """What a command prints; its last words when it fails."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    return next(folder.glob("*.whl"))


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes an environment with some extras, at the locked versions; its interpreter."""

    def make(extras: str, lock: str) -> Path:
        python = tmp_path / "venv" / "bin" / "python"
        run(sys.executable, "-m", "uv", "venv", "--quiet", tmp_path / "venv", "--python", sys.executable)
        install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
        run(*install, f"strop[{extras}] @ {wheel.as_uri()}", "--constraint", f"requirements/{lock}.lock")
        return python

    return make


def refused(*words: object) -> str:
    """What a command that must fail says."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2, f"{words}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stderr


def imports(python: Path, *names: str) -> dict[str, bool]:
    """Which of these modules the environment has."""
    code = f"import importlib.util as u; print([bool(u.find_spec(n)) for n in {names!r}])"
    return dict(zip(names, (word == "True" for word in run(python, "-c", code).strip("[]\n").split(", ")), strict=True))


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    """Broken, the build would skip an absent root in silence, or ship the tests."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    ours = {"strop_api", "strop_operator", "strop_cli", "strop_job"}
    assert tops == ours | {f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}


def test_the_operator_runs_without_any_numeric_library(environment: Callable[..., Path]) -> None:
    """Broken, its image would need what only a worker has, or kopf would load the whole Kubernetes client."""
    python = environment("operator", "operator")
    assert "--namespaces" in run(python, "-m", "strop_operator", "--help")
    have = imports(python, "kopf", "prometheus_client", "kubernetes", "torch", "onnx", "numpy", "minio")
    assert [name for name, there in have.items() if there] == ["kopf", "prometheus_client"]


def test_the_worker_plans_a_run_without_torch_and_without_the_operator(environment: Callable[..., Path]) -> None:
    """Broken, quantizing an ONNX model would need five gigabytes of torch."""
    python = environment("job,cpu", "worker-cpu")
    assert "run" in run(python, "-m", "strop_job.cli", "--help")
    run(python, "-c", "import strop_job.plan, strop_job.pipeline, strop_job.supervisor, strop_job.steps.quantize")
    assert "--termination-log" in run(python.with_name("strop"), "worker", "--help")
    assert "pip install 'strop[cli]'" in refused(python.with_name("strop"), "ls")
    have = imports(python, "onnxruntime", "onnx", "minio", "torch", "kopf", "kubernetes")
    assert [name for name, there in have.items() if there] == ["onnxruntime", "onnx", "minio"]


def test_the_command_line_speaks_to_a_cluster_without_what_only_a_worker_has(environment: Callable[..., Path]) -> None:
    """Broken, whoever looks at runs would need gigabytes of other libraries, or the plugin would not be found."""
    python = environment("cli", "dev")
    have = imports(python, "kubernetes", "minio", "kopf", "numpy", "onnx", "torch")
    assert [name for name, there in have.items() if there] == ["kubernetes", "minio"]
    assert "Usage: kubectl strop status" in run(python.with_name("kubectl-strop"), "status", "--help")
    assert run(python.with_name("kubectl_complete-strop"), "get-") == "get-engine\n:4\n"
    every = (
        "import pkgutil, importlib, strop_cli as p; print([importlib.import_module(f'strop_cli.{m.name}') and m.name"
    )
    names = run(python, "-c", f"{every} for m in pkgutil.iter_modules(p.__path__) if m.name != '__main__'])")
    assert "fetching" in names
    assert "pip install 'strop[job]'" in refused(python.with_name("strop"), "run", "crds/samples/minilm-int8.yaml")


def test_onnxruntime_gpu_without_a_gpu_is_an_error_and_no_silent_fallback(environment: Callable[..., Path]) -> None:
    """Broken, a CUDA target would be measured on the CPU and published as fast."""
    python = environment("job,cuda", "worker-cuda")
    code = """
import tempfile
from pathlib import Path
import onnx, onnxruntime
from onnx import TensorProto, helper
from strop_api.targets import Accelerator, Runtime, Target
from strop_api.model import ModelSource
from strop_job.backends import Compilation, backend_for
from strop_job.errors import StropError
from strop_job.stages import Artifact, ArtifactKind, NoCache

assert "CUDAExecutionProvider" in onnxruntime.get_available_providers(), onnxruntime.get_available_providers()
x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
folder = Path(tempfile.mkdtemp())
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx")
target = Target(name="gpu", runtime=Runtime.ONNX_RUNTIME, accelerator=Accelerator())
try:
    graph = Artifact(ArtifactKind.ONNX_GRAPH, folder, ("model.onnx",))
    inputs = [{"name": "x", "dtype": "float32", "shape": [1, 4]}]
    model = ModelSource(uri="s3://models/m.onnx", format="Onnx", inputs=inputs)
    work = Compilation(graph, model, target, Path(tempfile.mkdtemp()), lambda share, text: None, NoCache())
    engine = backend_for(target.runtime).compile(work)
    backend_for(target.runtime).open(engine, target, threads=1)
except StropError as error:
    print("refused:", error)
else:
    raise SystemExit("the CUDA provider was replaced by another in silence")
"""
    assert "CUDAExecutionProvider" in run(python, "-c", code)


def test_every_package_of_the_wheel_goes_into_the_images() -> None:
    """What the images' context leaves out, their wheel leaves out in silence: no worker would start."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    assert [package for package in packages["packages"] if f"!{package}" not in let_in] == []
