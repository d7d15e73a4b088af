"""Multiply-accumulates of a torch program, layer by layer, as formulas over its dynamic dimensions. Imports torch."""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import sympy
import torch

from strop_job.backends.aoti.package import Multiplication
from strop_job.backends.base import NumberFormat
from strop_job.models.signature import Signature
from strop_job.models.torch_programs import quiet

ATEN = torch.ops.aten
FORMATS = {torch.float32: NumberFormat.FP32, torch.float16: NumberFormat.FP16, torch.bfloat16: NumberFormat.BF16}
DEQUANTIZE = "quantized_decomposed.dequantize"
MOVES = frozenset({ATEN.view.default, ATEN.permute.default, ATEN.transpose.int, ATEN.t.default, ATEN.clone.default,
                   ATEN.reshape.default, ATEN._unsafe_view.default, ATEN.expand.default, ATEN.squeeze.dim,
                   ATEN.unsqueeze.default})  # fmt: skip
"""What only moves values: an integer before is an integer after."""


def multiplications(program: Any, signature: Signature) -> tuple[Multiplication, ...]:
    """The program's layers once it is taken apart into core operators, in order."""
    with quiet():
        graph = program.run_decompositions().graph
    names = _symbols(graph, signature)
    found = []
    for node in graph.nodes:
        count = COUNTERS.get(node.target) if node.op == "call_function" else None
        if count is not None:
            macs, columns, depth = count(node)
            found.append(
                Multiplication(_name(node), _operator(node), _formula(macs, names), _written(node), columns, depth)
            )
    return tuple(found)


def evaluate(formula: str, sizes: Mapping[str, int]) -> int:
    """A formula's value. Raises ValueError for what is more than arithmetic on the sizes."""

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name) if name in sizes:
                return sizes[name]
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -value(inner)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                return ARITHMETIC[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](*map(value, arguments))
        raise ValueError(f"{formula} is no formula of sizes")

    try:
        return value(ast.parse(formula, mode="eval").body)
    except (SyntaxError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{formula} is no formula of sizes") from error


ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
FUNCTIONS: Mapping[str, Callable[..., int]] = {
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "PythonMod": operator.mod, "Max": max, "Min": min,
    "CleanDiv": operator.floordiv,
}  # fmt: skip
"""As torch prints the sizes of its shapes."""

Counted = tuple[Any, int, int]
"""Multiply-accumulates, and for a product with a constant matrix its columns and its depth."""


def _product(node: torch.fx.Node, left: int, right: int) -> Counted:
    a, b = _shape(node.args[left]), _shape(node.args[right])
    constant = all(isinstance(s, int) for s in b) and len(b) == 2
    columns, depth = (b[-1], b[-2]) if constant else (0, 0)
    return prod(a) * b[-1], columns, depth


def _convolution(node: torch.fx.Node) -> Counted:
    weight, transposed = _shape(node.args[1]), bool(node.args[6])
    outputs = _shape(node.args[0]) if transposed else _shape(node)
    return prod(outputs) * prod(weight[1:]), 0, 0


def _attention(node: torch.fx.Node) -> Counted:
    query, key, value = (_shape(node.args[i]) for i in range(3))
    return prod(query) * key[-2] + prod(query[:-1]) * key[-2] * value[-1], 0, 0


COUNTERS: Mapping[Any, Callable[[torch.fx.Node], Counted]] = {
    ATEN.mm.default: lambda node: _product(node, 0, 1),
    ATEN.bmm.default: lambda node: _product(node, 0, 1),
    ATEN.addmm.default: lambda node: _product(node, 1, 2),
    ATEN.baddbmm.default: lambda node: _product(node, 1, 2),
    ATEN.convolution.default: _convolution,
    ATEN.scaled_dot_product_attention.default: _attention,
    ATEN._scaled_dot_product_flash_attention_for_cpu.default: _attention,
    ATEN._scaled_dot_product_efficient_attention.default: _attention,
    ATEN._scaled_dot_product_flash_attention.default: _attention,
}


def _shape(node: Any) -> tuple[Any, ...]:
    """Sizes as numbers, or as torch's expressions."""
    value = node.meta["val"]
    shape = (value[0] if isinstance(value, tuple | list) else value).shape
    return tuple(size if isinstance(size, int) else size.node.expr for size in shape)


def _symbols(graph: torch.fx.Graph, signature: Signature) -> dict[Any, Any]:
    """torch's symbols to the names of the spec's dimensions, read from the inputs' shapes."""
    wanted = {i.name: i.shape for i in signature.inputs}
    pairs = (
        (size, name)
        for node in graph.nodes
        if node.op == "placeholder" and node.name in wanted
        for size, name in zip(node.meta["val"].shape, wanted[node.name], strict=True)
    )
    return {s.node.expr: sympy.Symbol(n, integer=True, positive=True) for s, n in pairs if isinstance(s, torch.SymInt)}


def _formula(macs: Any, names: Mapping[Any, Any]) -> str:
    return str(sympy.sympify(macs).xreplace(dict(names)))


def _name(node: torch.fx.Node) -> str:
    paths = [entry[0] for entry in (node.meta.get("nn_module_stack") or {}).values()]
    return (paths[-1] if paths else "") or node.name


def _operator(node: torch.fx.Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _written(node: torch.fx.Node) -> str:
    """The format of the operands: integers where all of them are dequantized."""
    operands = list(_operands(node))
    if operands and all(_dequantized(operand) for operand in operands):
        return NumberFormat.INT8.value
    types = {operand.meta["val"].dtype for operand in operands}
    return FORMATS.get(types.pop(), NumberFormat.UNKNOWN).value if len(types) == 1 else NumberFormat.UNKNOWN.value


def _operands(node: torch.fx.Node) -> Iterator[torch.fx.Node]:
    first = 1 if node.target in (ATEN.addmm.default, ATEN.baddbmm.default) else 0
    return (argument for argument in node.args[first : first + 2] if isinstance(argument, torch.fx.Node))


def _dequantized(node: torch.fx.Node) -> bool:
    while node.op == "call_function" and node.target in MOVES:
        node = node.args[0]
    return str(node.target).startswith(DEQUANTIZE)
