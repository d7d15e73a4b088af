"""Which kernels an engine really runs: oneDNN's own log of one call, and the products that Inductor generated itself.

oneDNN says of every primitive it executes which implementation ran, on which types, at which sizes
(https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html). Kernels outside of it leave no such line.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from strop_job.backends.aoti.package import Multiplication
from strop_job.backends.base import Layer, NumberFormat

EXECUTED = re.compile(
    r"^onednn_verbose,v\d+,primitive,exec,\w+,(matmul|inner_product|convolution|deconvolution),.*$", re.M
)
OPERAND = re.compile(r"\b(src|wei)[:_](\w+):")
SIZE = re.compile(r"(mb|[a-z]{1,2})(\d+)")
EXTERN = re.compile(r"\b(aoti_torch_(?:cpu|cuda)_\w+|aoti_torch_proxy_executor_call_function)\(")
FUSED = re.compile(r"\b(cpp_fused_\w+|triton_\w+)\(\(")
TEMPLATE = re.compile(
    r"void (?P<name>\w+)\(const (?P<left>\w+)\* X, const (?P<right>\w+)\* W[^{]*\{"
    r"(?:(?!\nvoid ).)*?constexpr int64_t N = (?P<columns>\d+);\s*constexpr int64_t K = (?P<depth>\d+);",
    re.S,
)
"""A product that Inductor generated from its own template: types and sizes stand in its first lines."""

INTEGERS = frozenset({"u8", "s8", "uint8_t", "int8_t"})
FLOATS: Mapping[str, NumberFormat] = {
    "f32": NumberFormat.FP32, "f16": NumberFormat.FP16, "bf16": NumberFormat.BF16,
    "float": NumberFormat.FP32, "half": NumberFormat.FP16, "bfloat16": NumberFormat.BF16,
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One product or convolution that ran."""

    operator: str
    number_format: NumberFormat
    macs: int


@dataclass(frozen=True)
class Template:
    """A generated product, and how often a call of the engine runs it."""

    name: str
    number_format: NumberFormat
    columns: int
    depth: int
    calls: int


def executed(log: str) -> tuple[Kernel, ...]:
    """The products and convolutions in oneDNN's log, in the order they ran."""
    return tuple(_kernel(match.group(0).split(","), match.group(1)) for match in EXECUTED.finditer(log))


def templates(kernels: str, wrapper: str) -> tuple[Template, ...]:
    """The products among the generated kernels."""
    return tuple(
        Template(
            found["name"],
            _format(found["left"], found["right"]),
            int(found["columns"]),
            int(found["depth"]),
            len(re.findall(rf"\b{found['name']}\(\(", wrapper)),
        )
        for found in TEMPLATE.finditer(kernels)
    )


def node_counts(wrapper: str) -> Counter[str]:
    """Calls of libraries by name, and `generated` for loops that Inductor wrote."""
    calls: Counter[str] = Counter(name.removeprefix("aoti_torch_") for name in EXTERN.findall(wrapper))
    calls["generated"] = len(FUSED.findall(wrapper))
    return calls


def layers_of(
    program: Sequence[Multiplication], macs: Sequence[int], ran: Iterable[Kernel], generated: Iterable[Template]
) -> tuple[tuple[Layer, ...], str]:
    """The program's layers with the format each really ran in, and a note on what had to be concluded.

    A kernel is matched with the first layer of its multiply-accumulates. What is left ran in a kernel that says
    nothing: the compiler never shortens a format by itself, so a layer written in fp32 ran in fp32; all else is
    unknown.
    """
    left = list(range(len(program)))
    formats: dict[int, tuple[str, NumberFormat]] = {}
    unmatched = []
    for kernel in ran:
        at = next((i for i in left if macs[i] == kernel.macs), None)
        if at is None:
            unmatched.append(kernel)
        else:
            left.remove(at)
            formats[at] = (kernel.operator, kernel.number_format)
    for template in generated:
        fitting = [i for i in left if (program[i].columns, program[i].depth) == (template.columns, template.depth)]
        for at in fitting[: template.calls]:
            left.remove(at)
            formats[at] = ("generated_product", template.number_format)
    if unmatched:
        return _summed(program, macs, formats, left, unmatched)
    known = tuple(_layer(program[i], macs[i], formats.get(i)) for i in range(len(program)))
    return known, _note([program[i] for i in left])


def _summed(
    program: Sequence[Multiplication],
    macs: Sequence[int],
    formats: Mapping[int, tuple[str, NumberFormat]],
    left: Sequence[int],
    unmatched: Sequence[Kernel],
) -> tuple[tuple[Layer, ...], str]:
    """Kernels that stand for several layers are listed by themselves; what they leave over is one entry."""
    known = [_layer(program[i], macs[i], found) for i, found in sorted(formats.items())]
    fused = [Layer(f"fused_{n}", k.operator, k.number_format, k.macs) for n, k in enumerate(unmatched)]
    over = sum(macs[i] for i in left) - sum(k.macs for k in unmatched)
    written = {program[i].written for i in left}
    rest = NumberFormat(written.pop()) if written == {NumberFormat.FP32.value} else NumberFormat.UNKNOWN
    others = [Layer("others", "others", rest, over)] if over > 0 else []
    return (*known, *fused, *others), _note([program[i] for i in left])


def _layer(written: Multiplication, macs: int, found: tuple[str, NumberFormat] | None) -> Layer:
    if found is not None:
        return Layer(written.name, found[0], found[1], macs)
    fp32 = written.written == NumberFormat.FP32.value
    return Layer(written.name, written.operator, NumberFormat.FP32 if fp32 else NumberFormat.UNKNOWN, macs)


def _note(left: Sequence[Multiplication]) -> str:
    if not left:
        return ""
    unknown = sum(layer.written != NumberFormat.FP32.value for layer in left)
    concluded = len(left) - unknown
    told = [f"{concluded} layers written in fp32 ran in kernels that do not say their format; none shortens it"]
    told = told if concluded else []
    told += [f"{unknown} layers ran in kernels that do not say their format"] if unknown else []
    return "; ".join(told)


def _kernel(fields: Sequence[str], kind: str) -> Kernel:
    """From a line's fields: …, kind, implementation, propagation, operands, attributes, auxiliary, problem, time."""
    at = fields.index(kind)
    types = dict(OPERAND.findall(fields[at + 3]))
    number_format = _format(types.get("src", ""), types.get("wei", ""))
    if number_format is NumberFormat.FP32 and "fpmath:bf16" in fields[at + 4]:
        number_format = NumberFormat.BF16
    return Kernel(f"{kind} {fields[at + 1]}", number_format, _macs(kind, fields[-2]))


def _format(left: str, right: str) -> NumberFormat:
    if {left, right} <= INTEGERS:
        return NumberFormat.INT8
    return FLOATS.get(left, NumberFormat.UNKNOWN) if left == right else NumberFormat.UNKNOWN


def _macs(kind: str, problem: str) -> int:
    """From oneDNN's description of a problem: `32x384:384x384`, `mb1ic64oc10`, `mb1_ic3oc16_ih8oh8kh3…_iw8ow8kw3…`."""
    if kind == "matmul":
        left, right = ([int(size) for size in side.split("x")] for side in problem.split(":")[:2])
        batch = [max(pair) for pair in zip(left[:-2], right[:-2], strict=True)]
        return prod(batch) * left[-2] * left[-1] * right[-1]
    sizes = dict(_sizes(problem))
    outputs = "i" if kind in ("inner_product", "deconvolution") else "o"
    space = prod(sizes.get(f"{outputs}{axis}", 1) for axis in "dhw")
    window = prod(sizes.get(f"k{axis}", 1) for axis in "dhw")
    return sizes.get("mb", 1) * sizes["ic"] * sizes["oc"] * space * window // sizes.get("g", 1)


def _sizes(problem: str) -> Iterator[tuple[str, int]]:
    return ((name, int(size)) for name, size in SIZE.findall(problem))
