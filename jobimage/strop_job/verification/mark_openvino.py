"""Inner tensors of OpenVINO models as outputs; OpenVINO's engines are such models as well."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from strop_job.backends import openvino_graphs
from strop_job.backends.openvino_library import ov
from strop_job.stages import Artifact
from strop_job.verification.marking import Spot


class OpenVinoMarker:
    """Reads and writes IR. A tensor without a name goes by its operation's."""

    def spots(self, graph: Artifact) -> tuple[Spot, ...]:
        """The outputs of every operation that depends on an input."""
        found: list[Spot] = []
        varying: set[str] = set()
        for operation in openvino_graphs.read(graph).get_ordered_ops():
            kind, made = operation.get_type_name(), [_name(port) for port in operation.outputs()]
            inputs = tuple(name for name in map(_source, operation.inputs()) if name in varying)
            if kind == "Parameter" or inputs:
                varying.update(made)
            if inputs and kind != "Result":
                found += [Spot(name, operation.get_friendly_name(), kind, inputs) for name in made]
        return tuple(found)

    def mark(self, graph: Artifact, tensors: Sequence[str], folder: Path) -> Artifact:
        """Saved anew, weights included, in the precision they have."""
        model = openvino_graphs.read(graph)
        present = {_name(port) for port in model.outputs}
        for port in list(_ports(model)):
            if (name := _name(port)) in tensors and name not in present:
                port.get_tensor().set_names({name})
                model.add_outputs([port])
        entry = folder / Path(graph.files[0]).with_suffix(".xml").name
        ov.save_model(model, str(entry), compress_to_fp16=False)
        return Artifact(graph.kind, folder, (entry.name, entry.with_suffix(".bin").name), graph.facts)


def _ports(model: Any) -> Iterator[Any]:
    for operation in model.get_ordered_ops():
        if operation.get_type_name() not in ("Parameter", "Result", "Constant"):
            yield from operation.outputs()


def _name(port: Any) -> str:
    names = port.get_names()
    return min(names) if names else f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def _source(port: Any) -> str:
    return _name(port.get_source_output())
