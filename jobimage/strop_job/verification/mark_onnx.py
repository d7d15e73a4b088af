"""Inner tensors of ONNX graphs as outputs; ONNX Runtime's engines are such graphs as well."""

from collections.abc import Sequence
from pathlib import Path

import onnx

from strop_job.stages import Artifact
from strop_job.verification.marking import Spot, beside

CONSTANTS = frozenset({"Constant", "ConstantOfShape"})


class OnnxMarker:
    """Reads and writes the entry file; weights beside it are not opened."""

    def spots(self, graph: Artifact) -> tuple[Spot, ...]:
        """The outputs of every node of the main graph, in its order, which is one of computing."""
        content = _load(graph).graph
        varying = {tensor.name for tensor in content.input} - {weight.name for weight in content.initializer}
        found: list[Spot] = []
        for at, node in enumerate(content.node):
            inputs = tuple(name for name in node.input if name in varying)
            if not inputs or node.op_type in CONSTANTS:
                continue
            made = tuple(name for name in node.output if name)
            varying.update(made)
            found += [Spot(tensor, node.name or f"{node.op_type}_{at}", node.op_type, inputs) for tensor in made]
        return tuple(found)

    def mark(self, graph: Artifact, tensors: Sequence[str], folder: Path) -> Artifact:
        """Outputs without a type: whoever loads the graph infers it."""
        model = _load(graph)
        present = {output.name for output in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in present)
        entry = Path(graph.files[0]).name
        (folder / entry).write_bytes(model.SerializeToString())
        return Artifact(graph.kind, folder, (entry, *beside(graph, folder)), graph.facts)


def _load(graph: Artifact) -> onnx.ModelProto:
    return onnx.load(str(graph.entry), load_external_data=False)
