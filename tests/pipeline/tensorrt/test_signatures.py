"""Every name of TensorRT that the backend uses exists in the real bindings of TensorRT 11.4, with so many arguments.

TensorRT's libraries are not installable here, its Python interface is: it imports against three empty shared objects
that define the nine symbols it wants. The wheel is fetched by its hash. TensorRT-RTX and CUDA are checked as installed.
"""

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import strop_job.backends.tensorrt as package

from .device import FakeContext, FakeCudart, FakeEngine

SOURCES = sorted(Path(package.__file__).parent.glob("*.py"))
LOCK = Path(__file__).parents[3] / "requirements/tensorrt-bindings.lock"
STANDS_FOR: dict[str, dict[str, str]] = {
    "network": {
        "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "tensor": "ITensor",
        "layer": "ILayer", "fault": "ParserError",
    },
    "build": {
        "builder": "Builder", "network": "INetworkDefinition", "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
    },
    "timing": {"config": "IBuilderConfig", "timing": "ITimingCache"},
    "session": {"engine": "ICudaEngine", "context": "IExecutionContext", "inspector": "EngineInspector"},
    "backend": {
        "runtime": "Runtime", "refitter": "Refitter", "reader": "OnnxParserRefitter", "inspector": "EngineInspector",
    },
    "rtx": {"config": "IBuilderConfig", "runtime": "Runtime"},
}  # fmt: skip
"""What a variable (or an attribute, without leading underscores) of that name is, by module."""
RTX_ALONE = {"rtx"}
"""Modules whose calls TensorRT does not have."""
SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
DUMP = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
docs = lambda thing: {name: str(getattr(getattr(thing, name, None), "__doc__", "")) for name in dir(thing)}
print(json.dumps({name: docs(getattr(module, name)) for name in dir(module)}))
"""
Bindings = Mapping[str, Mapping[str, str]]
"""Docstrings of every member, by class."""


@dataclass(frozen=True)
class Use:
    """One use of a name."""

    owner: str
    """Class; empty for the module itself."""
    name: str
    arguments: int | None = None
    """How many it is called with; None when it is not called."""


def uses(tree: ast.AST, stands_for: Mapping[str, str]) -> Iterator[Use]:
    """Everything in a module that is the library's."""
    called = {
        id(node.func): len(node.args) + len(node.keywords) for node in ast.walk(tree) if isinstance(node, ast.Call)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _overrides(node)
        if not isinstance(node, ast.Attribute):
            continue
        owner = _owner(node.value, stands_for)
        if owner is not None and not node.attr.startswith("__"):
            yield Use(owner, node.attr, called.get(id(node)))


def _owner(value: ast.expr, stands_for: Mapping[str, str]) -> str | None:
    """The class whose member is used: `trt.X`, `trt.X.Y`, `config.y`, `self._context.y`."""
    if isinstance(value, ast.Name) and value.id == "trt":
        return ""
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "trt":
        return value.attr
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    return stands_for.get(name.lstrip("_"))


def _overrides(node: ast.ClassDef) -> Iterator[Use]:
    """Methods by which the library calls back: one of another name would never be called."""
    for base in node.bases:
        if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id == "trt":
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name != "__init__":
                    yield Use(base.attr, method.name, len(method.args.args) - 1)


def wrong(use: Use, bindings: Bindings) -> str:
    """What is the matter with a use; empty when nothing is."""
    members = bindings.get(use.owner if use.owner else use.name)
    if members is None:
        return f"there is no {use.owner or use.name}"
    name = use.name if use.owner else "__init__"
    if name not in members:
        return f"{use.owner} has no {name}"
    if use.arguments is None:
        return ""
    takes = [_counts(line) for line in signatures(members[name], name)]
    if takes and not any(low <= use.arguments <= high for low, high in takes):
        return f"{use.owner}.{name} takes {takes}, not {use.arguments} arguments"
    return ""


def signatures(doc: str, name: str) -> list[str]:
    """The argument lists that a docstring of the bindings gives, without `self`."""
    found = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", doc, re.MULTILINE)
    return [line for line in found if line != "*args, **kwargs"]


def _counts(line: str) -> tuple[int, int]:
    parts = [part for part in re.split(r", (?=\w+:)", line) if part and not part.startswith("self")]
    return sum("=" not in part for part in parts), len(parts)


def faults(bindings: Bindings, modules: Iterator[Path] | list[Path]) -> list[str]:
    """Everything in the modules that the bindings do not have."""
    return [
        f"{path.name}: {fault}"
        for path in modules
        for use in uses(ast.parse(path.read_text()), STANDS_FOR.get(path.stem, {}))
        if (fault := wrong(use, bindings))
    ]


def dump(module: str, *paths: str) -> Bindings:
    """The bindings as another process sees them."""
    code = f"import sys; sys.path[:0] = {list(paths)!r}\n{DUMP}"
    done = subprocess.run([sys.executable, "-c", code, module], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: Bindings = json.loads(done.stdout)
    return found


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bindings' wheel, by its hash."""
    folder = tmp_path_factory.mktemp("bindings")
    fetch = ["-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    done = subprocess.run(
        [sys.executable, *fetch, "-r", str(LOCK), "-d", str(folder)], capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        pytest.skip(f"TensorRT's bindings cannot be had here: {done.stderr.strip().splitlines()[-1:]}")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def tensorrt(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    """TensorRT's real Python interface."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler here to stand in for TensorRT's libraries")
    folder = tmp_path_factory.mktemp("tensorrt")
    zipfile.ZipFile(wheel).extractall(folder)
    place = folder / "tensorrt_bindings"
    source = folder / "empty.c"
    source.write_text("".join(f"void* {symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for library in LIBRARIES:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(place / library), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return dump("tensorrt_bindings", str(folder))


@pytest.fixture(scope="session")
def tensorrt_rtx() -> Bindings:
    """TensorRT-RTX as it is installed."""
    return dump("tensorrt_rtx")


def test_every_call_of_tensorrt_exists_in_its_bindings(tensorrt: Bindings) -> None:
    """No test runs TensorRT itself here: a name that 11.4 lacks would first fail on a user's GPU."""
    assert faults(tensorrt, [path for path in SOURCES if path.stem not in RTX_ALONE]) == []


def test_every_call_of_tensorrt_rtx_exists_in_its_bindings(tensorrt_rtx: Bindings) -> None:
    """Much of the session runs only on a GPU, under either library."""
    assert faults(tensorrt_rtx, SOURCES) == []


def test_what_the_check_looks_at_is_what_matters() -> None:
    """A check that finds nothing to check would pass for ever."""
    seen = {
        (use.owner, use.name)
        for path in SOURCES
        for use in uses(ast.parse(path.read_text()), STANDS_FOR.get(path.stem, {}))
    }
    assert seen >= {
        ("", "Builder"), ("Builder", "build_serialized_network"), ("BuilderFlag", "STRIP_PLAN"),
        ("IBuilderConfig", "set_timing_cache"), ("ITimingCache", "combine"), ("OnnxParser", "parse_from_file"),
        ("IOptimizationProfile", "set_shape"), ("IExecutionContext", "execute_async_v3"),
        ("IProgressMonitor", "step_complete"), ("ILogger", "log"), ("Runtime", "deserialize_cuda_engine"),
        ("Refitter", "refit_cuda_engine"), ("EngineInspector", "get_engine_information"),
        ("ICudaEngine", "get_tensor_profile_shape"), ("ParserError", "node_operator"),
    }  # fmt: skip
    assert len(seen) > 60


PLANTED = {
    "build": (
        "config.set_flag(trt.BuilderFlag.FP16)",
        "config.int8_calibrator = None",
        "builder.build_engine(network, config)",
        "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)",
        "builder.build_serialized_network(network, config, 1, 2)",
    ),
    "session": ("context.execute_async_v2(1)", "self._engine.get_binding_name(0)"),
}
"""Calls of older releases, and calls with the wrong number of arguments."""


@pytest.mark.parametrize(("module", "line"), [(module, line) for module, lines in PLANTED.items() for line in lines])
def test_a_planted_call_is_found(tensorrt: Bindings, module: str, line: str) -> None:
    """The check must be able to fail: each of these was right in an older release, or never."""
    found = [wrong(use, tensorrt) for use in uses(ast.parse(line), STANDS_FOR[module])]
    assert any(found), line


@pytest.mark.parametrize(("fake", "real"), [(FakeContext, "IExecutionContext"), (FakeEngine, "ICudaEngine")])
def test_the_fakes_have_only_what_the_bindings_have(tensorrt: Bindings, fake: type, real: str) -> None:
    """A session that is tested against a fake with other methods is not tested."""
    for name, method in inspect.getmembers(fake, inspect.isfunction):
        if not name.startswith("_"):
            assert wrong(Use(real, name, len(inspect.signature(method).parameters) - 1), tensorrt) == ""


def test_the_fake_of_cuda_has_only_what_its_bindings_have() -> None:
    """The real bindings of the CUDA runtime import without a driver; names and arguments must be theirs."""
    from cuda.bindings import runtime

    for name, method in inspect.getmembers(FakeCudart, inspect.isfunction):
        if name.startswith("cuda"):
            real = str(getattr(runtime, name).__doc__).split("\n")[0]
            takes = [part for part in re.split(r",\s*", real.partition("(")[2].rpartition(")")[0]) if part]
            least = sum("=" not in part for part in takes)
            assert least <= len(inspect.signature(method).parameters) - 1 <= len(takes), real


def test_every_call_of_cuda_exists() -> None:
    """The same for what the session really calls, constants included."""
    from cuda.bindings import runtime

    source = (Path(package.__file__).parent / "cuda.py").read_text()
    called = re.findall(r"cudart\.((?:cuda\w+)(?:\.cuda\w+)?)", source)
    assert len(called) > 20
    for name in called:
        found: Any = runtime
        for part in name.split("."):
            found = getattr(found, part, None)
        assert found is not None, name
