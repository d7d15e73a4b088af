"""Reading `.pt2` archives as the archives they are: signature, operators and types, with neither torch nor pickle."""

import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop_job.errors import InvalidInput
from strop_job.models.signature import Signature

PROGRAM_FILE = "model.pt2"
FACTS_FILE = "program.json"
"""What the export found out, beside the program."""
SIGNATURE_FILE = "strop.json"
JSON_LIMIT_BYTES = 256 << 20
HALF_TYPES = frozenset({6, 13})
"""fp16 and bf16 in the numbering of torch's serialized programs (`torch._export.serde.schema.ScalarType`)."""
QUANTIZED = "quantized_decomposed."


def read_signature(path: Path) -> Signature:
    """What the program takes and yields. Raises InvalidInput for a file that no export of ours has written."""
    try:
        return Signature.parse(member(path, f"/extra/{SIGNATURE_FILE}").decode())
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path.name} is no program that this worker exported", field="spec.model") from error


def operators(path: Path) -> Counter[str]:
    """Calls by operator, such as `aten.linear.default`."""
    nodes = _graph(path)["nodes"]
    targets = (node["target"].removeprefix("torch.ops.") for node in nodes)
    return Counter(target for target in targets if "." in target)


def is_quantized(path: Path) -> bool:
    """Whether some of it passes through integers."""
    return any(name.startswith(QUANTIZED) for name in operators(path))


def has_half(path: Path) -> bool:
    """Whether some tensor of it is fp16 or bf16."""
    return any(_dtype(value) in HALF_TYPES for value in _graph(path)["tensor_values"].values())


def member(path: Path, ending: str) -> bytes:
    """The one member of an archive whose name ends so. Raises KeyError without one, InvalidInput for no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = next((entry for entry in archive.infolist() if entry.filename.endswith(ending)), None)
            if found is None or found.file_size > JSON_LIMIT_BYTES:
                raise KeyError(ending)
            return archive.read(found)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise InvalidInput(
            f"{path.name} is damaged: it is no complete archive",
            field="spec.model",
            mend="delete its record, so that it is made again",
        ) from error


def _graph(path: Path) -> Mapping[str, Any]:
    try:
        graph: Mapping[str, Any] = json.loads(member(path, "/models/model.json"))["graph_module"]["graph"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path.name} holds no torch program", field="spec.model") from error
    return graph


def _dtype(value: Mapping[str, Any]) -> Any:
    return value.get("dtype", value.get("meta", {}).get("dtype"))
