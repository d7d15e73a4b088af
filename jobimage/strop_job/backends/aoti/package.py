"""The engine's file: an archive with generated code, a shared library, and what we say of it. Imports no torch.

Opening one loads a shared library: it is code of whoever built it, and runs with all that the process may do.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.program_files import member
from strop_job.models.signature import Signature

ENGINE_FILE = "engine.pt2"
METADATA_MEMBER = ".wrapper_metadata.json"
OUR_KEY = "strop"
WRAPPER, KERNELS = ".wrapper.cpp", ".kernel.cpp"


@dataclass(frozen=True)
class Multiplication:
    """A layer of the program that multiplies and accumulates, before the compiler fused it."""

    name: str
    operator: str
    macs: str
    """Multiply-accumulates as a formula over the dynamic dimensions."""
    written: str
    """What the program says its operands are: a `NumberFormat`."""
    columns: int = 0
    """Output features of a product with a constant matrix, 0 for others; `depth` are its input features."""
    depth: int = 0


@dataclass(frozen=True)
class Built:
    """What an engine says of itself, beside its signature."""

    torch: str
    arch: str
    isa: Sequence[str]
    """Instruction sets of the processor whose code it is."""
    threads: int
    """Threads its loops were generated for."""
    device: str
    """`cpu` or `cuda`."""
    max_autotune: bool
    layers: Sequence[Multiplication]


def to_metadata(signature: Signature, built: Built) -> dict[str, str]:
    """As the compiler takes it."""
    return {OUR_KEY: json.dumps({"signature": json.loads(signature.text()), "built": asdict(built)})}


def describe(engine: Path) -> tuple[Signature, Built]:
    """What an engine takes, and what it was built for. Raises InvalidInput for a file that is none of ours."""
    try:
        document = json.loads(json.loads(member(engine, METADATA_MEMBER))[OUR_KEY])
        built = document["built"]
        layers = tuple(Multiplication(**layer) for layer in built.pop("layers"))
        return Signature.parse(json.dumps(document["signature"])), Built(layers=layers, **built)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{engine.name} is no engine that this worker compiled", field="spec.model", mend="compile it again"
        ) from error


def require_fit(built: Built, *, torch: str, arch: str, isa: Sequence[str]) -> None:
    """Raises Unsupported for an engine that would crash here: another torch's, or another processor's code."""
    if built.torch != torch:
        raise Unsupported(
            f"the engine was compiled by torch {built.torch}, and this is torch {torch}",
            field="spec.worker.image",
            mend=f"load it with torch {built.torch}, or compile it again",
        )
    missing = sorted(set(built.isa) - set(isa))
    if built.arch != arch or missing:
        lacks = f"is {arch}" if built.arch != arch else f"has no {', '.join(missing)}"
        raise Unsupported(
            f"the engine holds code for {built.arch} with {', '.join(built.isa)}; this processor {lacks}",
            field="spec.targets[].cpu.isa",
            mend="run it on the kind of processor it was compiled on, or compile it there",
        )


def code(engine: Path, ending: str) -> str:
    """Generated source in the package; empty when it holds none."""
    try:
        return member(engine, ending).decode(errors="replace")
    except KeyError:
        return ""
