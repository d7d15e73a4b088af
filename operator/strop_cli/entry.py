"""Where `strop`, `kubectl strop` and kubectl's completion begin. Imports nothing that an extra brings."""

import sys
from importlib import import_module
from pathlib import Path

EXTRAS = {
    "kubernetes": "cli", "typer": "cli", "rich": "cli", "minio": "cli", "urllib3": "cli",
    "numpy": "job", "onnx": "job", "pyarrow": "job", "tokenizers": "job", "PIL": "job", "safetensors": "job",
    "sympy": "job", "psutil": "job", "jinja2": "job", "matplotlib": "job", "securesystemslib": "job",
    "cryptography": "job", "nacl": "job", "onnxruntime": "cpu", "torch": "torch", "onnxscript": "torch",
    "openvino": "openvino", "nncf": "openvino", "torchao": "inductor",
}  # fmt: skip
"""Which extra brings a library."""
USAGE = 2


def main() -> None:
    """Entry of `strop` and of `kubectl strop`."""
    try:
        import_module("strop_cli.app").run("kubectl strop" if _is_plugin() else "strop")
    except ModuleNotFoundError as missing:
        sys.exit(_absent(missing))


def complete() -> None:
    """Entry of `kubectl_complete-strop`, which kubectl asks for the words that may follow."""
    try:
        import_module("strop_cli.completion").answer(sys.argv[1:])
    except ModuleNotFoundError as missing:
        sys.exit(_absent(missing))


def _is_plugin() -> bool:
    return Path(sys.argv[0]).name.startswith("kubectl")


def _absent(missing: ModuleNotFoundError) -> int:
    """Says which extra to install. What no extra brings is a bug, and stays one."""
    extra = EXTRAS.get((missing.name or "").partition(".")[0])
    if extra is None:
        raise missing
    wanted = f"job,{extra}" if extra not in ("cli", "job") else extra
    print(f"strop: this needs {missing.name}, which is not installed: pip install 'strop[{wanted}]'", file=sys.stderr)
    return USAGE
