"""bf16: convolutions and products take bf16 operands, everything between them stays fp32, as do inputs and outputs."""

import torch

from strop_job.errors import InvalidInput
from strop_job.steps.quantize.torch_program.selection import Selection

TO = torch.ops.aten.to.dtype


def cast(module: torch.fx.GraphModule, selection: Selection, index: int) -> int:
    """Rewrites the module in place; weights are stored in bf16. The number of layers cast.

    bf16 has fp32's exponents, so that nothing overflows. Raises InvalidInput when nothing is selected.
    """
    nodes = [node for node in module.graph.nodes if selection.has(node)]
    if not nodes:
        raise InvalidInput(
            "nothing was cast: the step selects no convolution or product of the program",
            field=f"spec.steps[{index}].quantize",
            mend="check opTypes and excludeNodes",
        )
    for node in nodes:
        _cast_layer(module.graph, node)
    _store_weights(module)
    module.graph.lint()
    module.recompile()
    return len(nodes)


def _cast_layer(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """Casts before and after; Inductor fuses them into the neighbours."""
    for operand in set(node.all_input_nodes):
        if _is_float(operand):
            with graph.inserting_before(node):
                short = graph.call_function(TO, (operand, torch.bfloat16))
            node.replace_input_with(operand, short)
    with graph.inserting_after(node):
        long = graph.call_function(TO, (node, torch.float32))
    node.replace_all_uses_with(long, delete_user_cb=lambda user: user is not long)
    long.meta["val"] = node.meta.get("val")


def _is_float(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _store_weights(module: torch.fx.GraphModule) -> None:
    """A weight that every reader casts is stored as bf16, and the casts go."""
    readers: dict[str, list[torch.fx.Node]] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers.setdefault(node.target, []).append(node)
    for name, nodes in readers.items():
        users = [user for node in nodes for user in node.users]
        if not users or not all(user.target is TO and user.args[1] is torch.bfloat16 for user in users):
            continue
        owner, _, attribute = name.rpartition(".")
        holder = module.get_submodule(owner)
        short = getattr(holder, attribute).detach().to(torch.bfloat16)
        delattr(holder, attribute)
        holder.register_buffer(attribute, short)
        for user in users:
            user.replace_all_uses_with(user.args[0])
            module.graph.erase_node(user)
