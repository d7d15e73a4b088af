"""Baked-in sizes: a graph is run at the sizes it should serve, and where it fails the constant behind it is named."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx

from strop_api.checks.graph import BAKED_BATCH, BAKED_SIZE, FIXED_AXIS
from strop_api.findings import Finding, Severity
from strop_job.audit.graph.interface import (
    ALONE_SIZES,
    Interface,
    Sizes,
    along_others,
    at_other_sizes,
    fixed_first_axes,
    of_graph,
)
from strop_job.audit.graph.reading import Reading, named, read
from strop_job.audit.graph.running import Attempt, Call, OutOfTime, attempt, lost, open_model, vocabulary
from strop_job.audit.graph.trials import Cause, described, find_cause, hunt_example, lab_of

Tell = Callable[[str], None]


def shape_findings(
    model: onnx.ModelProto, call: Call, served: Interface, below: int | None, tell: Tell = lambda _: None
) -> list[Finding]:
    """What running at every size of the interface shows. `call` is the model opened; the rest is from `served_at`."""
    declared, reading = leading_axes(model), read(model)
    if below is None:
        return _served_nowhere(model, reading, served, call)
    attempts = []
    for sizes in served.sizes:
        attempts.append(attempt(call, served, sizes, below))
        tell(f"ran at {attempts[-1].where}")
    found = _judged(reading, served, below, declared, attempts, call)
    good = [one for one in attempts if one.shapes is not None]
    if found or served.promised or not good or set(served.names) <= {served.batch}:
        return found
    return _other_axes(reading, along_others(served, good[-1].sizes), below, call)


def _other_axes(reading: Reading, interface: Interface, below: int, call: Call) -> list[Finding]:
    """Lengths and extents that nobody promised: only what a constant is proven to cause is said."""
    attempts = [attempt(call, interface, sizes, below) for sizes in interface.sizes]
    failed = [one for one in attempts if one.shapes is None]
    ran = [one.sizes for one in attempts if one.shapes is not None]
    if not failed or not ran:
        return []
    cause = find_cause(lab_of(reading, interface, below, {}, [one.sizes for one in failed]), ran)
    return [] if cause is None else [_finding(reading, interface, failed, {}, ran, cause)]


def served_at(call: Call, interface: Interface) -> tuple[Interface, int | None]:
    """The interface with other axes at a size that the graph takes, where none is promised; and its vocabulary."""
    below = vocabulary(call, interface)
    if below is not None or interface.promised:
        return interface, below
    others = set(interface.names) - {interface.batch}
    for size in ALONE_SIZES[1:] if others else ():
        moved = at_other_sizes(interface, size)
        if (below := vocabulary(call, moved)) is not None:
            return moved, below
    return interface, None


def leading_axes(model: onnx.ModelProto) -> dict[str, str]:
    """The name of each output's first axis, where it has one."""
    dims = {output.name: output.type.tensor_type.shape.dim for output in model.graph.output}
    return {name: dim[0].dim_param for name, dim in dims.items() if dim and dim[0].dim_param}


def _judged(
    reading: Reading,
    interface: Interface,
    below: int,
    declared: dict[str, str],
    attempts: Sequence[Attempt],
    call: Call,
) -> list[Finding]:
    losing = lost(interface, attempts, declared)
    wrong = [one for each in losing.values() for one in each]
    failed = [one for one in attempts if one.shapes is None] + [one for one in attempts if one in wrong]
    if not failed:
        return []
    ran = [one.sizes for one in attempts if one.shapes is not None and one not in wrong]
    if not ran:
        found = hunt_example(reading, interface, below, call)
        ran = [found] if found else []
    cause = find_cause(lab_of(reading, interface, below, declared, [one.sizes for one in failed]), ran)
    if cause is None and fixed_first_axes(interface):
        return [_fixed_beside(interface, failed[0])]
    return [_finding(reading, interface, failed, losing, ran, cause)]


def _served_nowhere(model: onnx.ModelProto, reading: Reading, interface: Interface, call: Call) -> list[Finding]:
    """No size that was tried is served: the numbers in the graph may say which is.

    What no constant explains is said only where the sizes were promised: alone, a graph may want what nobody wrote.
    """
    for below in (1000, 10, 1) if interface.names else ():
        example = hunt_example(reading, interface, below, call)
        failed = [attempt(call, interface, sizes, below) for sizes in interface.sizes]
        cause = None
        if example is not None:
            lab = lab_of(reading, interface, below, leading_axes(model), [one.sizes for one in failed])
            cause = find_cause(lab, [example])
        if cause is not None or (interface.promised and example is not None):
            return [_finding(reading, interface, failed, {}, [example] if example else [], cause)]
    if not interface.promised:
        return []
    failed = [attempt(call, interface, sizes, 10) for sizes in interface.sizes]
    return [_finding(reading, interface, failed, {}, [], None)]


def _finding(
    reading: Reading,
    interface: Interface,
    failed: Sequence[Attempt],
    losing: Mapping[str, Sequence[Attempt]],
    ran: Sequence[Sizes],
    cause: Cause | None,
) -> Finding:
    """One finding for one failure: what was run, and the constants that are proven to be its cause."""
    axes = {mend.axis for mend in cause.mends} if cause else {interface.batch}
    check = BAKED_BATCH if interface.batch in axes else BAKED_SIZE
    good = f", serves {_sizes(ran[0])}" if ran else ""
    if cause is None:
        return check.finding(f"{_symptom(reading, failed[0], losing)}{good}; no constant was found to be the cause")
    listed = described(reading, cause.mends)
    more = f" (and {len(listed) - 1} more)" if len(listed) > 1 else ""
    proof = "with it live all sizes run" if cause.whole else "with it live it gets farther"
    where = failed[0].where if failed[0].shapes is None else f"{failed[0].where} (wrong rows)"
    return check.finding(f"{listed[0]}{more}; fails at {where}{good}; {proof}")


def _fixed_beside(interface: Interface, one: Attempt) -> Finding:
    """Some inputs follow the batch and others do not."""
    given, size = fixed_first_axes(interface)[0]
    return FIXED_AXIS.finding(
        f"the first axis of `{given.name}` is {size}, others' is a dynamic {interface.batch}: fails at {one.where}"
    )


def _symptom(reading: Reading, one: Attempt, losing: Mapping[str, Sequence[Attempt]]) -> str:
    if one.shapes is None:
        node = f" in {_operator(reading, one.node)}`{one.node}`" if one.node else ""
        return f"fails at {one.where}{node}: {one.error}"
    name = next(name for name, wrong in losing.items() if one in wrong)
    return f"output `{name}` has shape {list(one.shapes[name])} at {one.where}"


def _operator(reading: Reading, name: str) -> str:
    return next((f"{node.op_type} " for node in reading.nodes if node.name == name), "")


def _sizes(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def fixed_axes(model: onnx.ModelProto) -> Iterator[Finding]:
    """Inputs of a graph that comes alone whose first axis is a number, and what stands in the way of a dynamic one."""
    interface = of_graph(model)
    fixed = fixed_first_axes(interface)
    if not fixed or interface.batch is not None:
        return
    names = named([given.name for given, _ in fixed])
    size = fixed[0][1]
    message = f"the first axis of {names} is {size}: no other batch is taken; {_inside(model)}"
    yield FIXED_AXIS.finding(message, severity=Severity.MEDIUM)


def _inside(model: onnx.ModelProto) -> str:
    """Whether only the declaration is fixed, found by loosening it and running."""
    loose = loosened(model)
    try:
        call = open_model(loose)
        found = shape_findings(loose, call, *served_at(call, of_graph(loose)))
    except OutOfTime:
        raise
    except Exception:  # the loosened graph is our own; that it does not load says nothing of theirs
        return "whether it is baked in further inside could not be tried"
    if not found:
        return "inside nothing depends on it, so only the declaration must change"
    return f"inside too: {found[0].message}"


def loosened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with dynamic first axes wherever inputs have a fixed one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    fixed = {given.name for given, _ in fixed_first_axes(of_graph(model))}
    for value in copy.graph.input:
        if value.name in fixed:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    return copy
