"""Programs that export: with which opset, for which shapes, in which mode, and whether the file was ever opened."""

import ast
from collections.abc import Iterator

from strop_api.checks.source import (
    EXPORT_WITHOUT_CHECKER,
    MISSING_DYNAMIC_SHAPES,
    MISSING_OPSET,
    TRAIN_MODE_EXPORT,
)
from strop_job.audit.source.events import Event, Flow
from strop_job.audit.source.known import ONNX_EXPORTS, looks
from strop_job.audit.source.located import Located, at
from strop_job.audit.source.program import Program, expects_failure, made_by
from strop_job.audit.source.values import UNKNOWN, Class, Value

OPSET_POSITION = 9
"""Of `opset_version` in the exporter's former signature, in which all could be given by position."""
DYNAMIC_POSITION = 11
SHAPED = frozenset({"randn", "rand", "zeros", "ones", "empty", "randint", "full"})
MOVES = frozenset({"to", "cuda", "cpu", "float", "half", "contiguous", "requires_grad_"})
OPENS = frozenset({
    "check_model", "checker", "onnxruntime", "InferenceSession", "tensorrt", "openvino", "readNetFromONNX", "onnxsim",
    "onnxslim", "polygraphy", "tvm", "coremltools", "subprocess", "system", "onnx2torch", "onnx_tf", "OnnxParser",
    "verification", "verify", "tensorrt_rtx", "onnx_graphsurgeon", "ReferenceEvaluator", "ncnn", "MNN",
})  # fmt: skip
"""Words of a program that opens ONNX files, or leaves it to another program."""
RESHAPES = frozenset({"update_model_dims", "dim_param"})
"""Words of a program that frees the sizes of a graph after it was exported."""
LOSSY = ("Dropout", "BatchNorm")
"""Layers that answer otherwise in training mode."""
SHIPS = ("torch.export.save", "torch._inductor.aoti_compile_and_package")


def missing_opset(flow: Flow, program: Program) -> Iterator[Located]:
    """An ONNX file of whatever opset the exporter's release prefers."""
    for event in _kept_exports(flow):
        asked = event.argument(OPSET_POSITION, "opset_version")
        if asked is None or asked.const is None:
            yield at(event.node, MISSING_OPSET, "torch.onnx.export without opset_version")


def missing_dynamic_shapes(flow: Flow, program: Program) -> Iterator[Located]:
    """A graph that is kept, and takes the example's sizes only."""
    if flow.test or program.words & RESHAPES:
        return
    made = made_by(flow)
    shipped = [e for e in flow.events if e.name in ONNX_EXPORTS]
    kept = _kept_exports(flow)
    kept += [e for e in flow.events if _is_shipped(e, flow.events, shipped)]
    for event in kept:
        if _has_shapes(event) or _model(event).path.startswith("torch.export.export()"):
            continue
        sizes = _example(event, made)
        if sizes is not None:
            shape = " x ".join(map(str, sizes))
            yield at(event.node, MISSING_DYNAMIC_SHAPES, f"{event.name} takes {shape} and nothing else")


def _has_shapes(event: Event) -> bool:
    for given in (event.keywords.get("dynamic_shapes"), event.argument(DYNAMIC_POSITION, "dynamic_axes")):
        if given is not None and given.const is not None and given.keys != {}:
            return True
    return False


def _is_shipped(event: Event, events: list[Event], exports: list[Event]) -> bool:
    """Whether it is an export to a program that is saved or made into a file."""
    if event.name != "torch.export.export" or event.open_ended or expects_failure(event.at):
        return False
    ships = [later for later in events if later.name in SHIPS] + exports
    return any(
        (given := later.argument(0, "ep", "exported_program", "model")) is not None and event.result in given.choices()
        for later in ships
    )


def _example(event: Event, made: dict[Value, Event]) -> list[int] | None:
    """The sizes of the first example that is written down, if it has a batch and more."""
    given = event.argument(1, "args")
    if given is None or len(given.choices()) > 1:
        return None
    for value in given.items or [given]:
        sizes = _sizes(value, made)
        if sizes is not None and len(sizes) > 1:
            return sizes
    return None


def _sizes(value: Value, made: dict[Value, Event]) -> list[int] | None:
    source = made.get(value)
    while source is not None and source.method in MOVES and source.receiver is not None:
        source = made.get(source.receiver) if source.receiver is not value else None
    if source is None or not source.name.startswith("torch.") or source.method not in SHAPED:
        return None
    if source.method in ("randint", "full"):
        shape = source.keywords.get("size") or next((arg for arg in source.args if arg.items is not None), None)
        parts = shape.items if shape is not None else None
    elif "size" in source.keywords or (source.args and source.args[0].items is not None):
        parts = (source.keywords.get("size") or source.args[0]).items
    else:
        parts = list(source.args)
    sizes = [part.const for part in parts or []]
    return [size for size in sizes if isinstance(size, int)] if all(isinstance(s, int) for s in sizes) else None


def export_without_checker(flow: Flow, program: Program) -> Iterator[Located]:
    """A program that ends without having opened the ONNX file that it wrote."""
    if not flow.is_program or program.words & OPENS:
        return
    for event in _kept_exports(flow):
        after = flow.events[flow.events.index(event) + 1 :]
        target = _target(event) or _saved_as(event, after)
        if target is not None and not any(_opens(later, target) for later in after):
            yield at(event.node, EXPORT_WITHOUT_CHECKER, "the exported file is not opened again")


def _opens(event: Event, target: Value) -> bool:
    if event.name in ONNX_EXPORTS or event.method == "save" or not looks(event) or event.name == "os.makedirs":
        return False
    return mentions(event, target)


def mentions(event: Event, target: Value) -> bool:
    """Whether a call is given a value, or the same constant."""
    parts = {part for given in event.given() for part in given.reach()}
    constants = {part.const for part in parts if isinstance(part.const, str)}
    return target in parts or (isinstance(target.const, str) and target.const in constants)


def _kept_exports(flow: Flow) -> list[Event]:
    """Exports to ONNX that leave a file: not those of tests, nor into memory, nor with arguments that are not known."""
    if flow.test:
        return []
    exports = [e for e in flow.events if e.name in ONNX_EXPORTS and not e.open_ended and not expects_failure(e.at)]
    return [event for event in exports if len(event.args) + len(event.keywords) > 1 and _is_kept(event, flow)]


def _is_kept(event: Event, flow: Flow) -> bool:
    target = _target(event)
    if target is None or target.const is None:
        return any(e.method == "save" and e.receiver is event.result for e in flow.events)
    return not any(part.path.endswith("BytesIO()") or part.path == "tempfile" for part in target.reach())


def _target(event: Event) -> Value | None:
    return event.argument(2, "f")


def _saved_as(event: Event, after: list[Event]) -> Value | None:
    """Where the program that the export returns is saved."""
    saves = [later for later in after if later.method == "save" and later.receiver is event.result]
    return saves[0].argument(0, "destination") if saves else None


def _model(event: Event) -> Value:
    return event.argument(0, "model", "mod") or Value()


def train_mode_export(flow: Flow, program: Program) -> Iterator[Located]:
    """A model that is known to be in training mode when it is exported or traced."""
    if flow.test:
        return
    for index, event in enumerate(flow.events):
        if not _freezes_mode(event, flow) or "training" in event.keywords:
            continue
        model = _model(event) if event.name in ONNX_EXPORTS else event.argument(0, "func") or Value()
        if len(model.choices()) == 1 and _in_training(model, flow.events[:index]):
            yield at(event.node, TRAIN_MODE_EXPORT, "the model is in training mode: eval() was not called")


def _freezes_mode(event: Event, flow: Flow) -> bool:
    if event.name == "torch.jit.trace":
        return not expects_failure(event.at) and any(
            (e.name == "torch.jit.save" and event.result in e.args)
            or (e.method == "save" and e.receiver is event.result)
            for e in flow.events
        )
    dynamo = event.keywords.get("dynamo")
    legacy = dynamo is not None and dynamo.const is not True
    return event.name in ONNX_EXPORTS and event in _kept_exports(flow) and not legacy


def _in_training(model: Value, before: list[Event]) -> bool:
    """Whether it was put into training mode last, or is a fresh model that matters and whose mode nobody touched."""
    state = _is_fresh(model)
    for event in before:
        if event.receiver is model and event.method == "train":
            mode = event.argument(0, "mode")
            state = mode is None or mode.const is True
            if mode is not None and mode.const is UNKNOWN:
                return False
        elif event.receiver is model and event.method == "eval":
            state = False
        elif state and looks(event) and model in event.given() and not event.name.startswith(("torch.", "torchinfo")):
            return False
    return state


def _is_fresh(model: Value) -> bool:
    """Whether it is a new model, in training mode as all are, with layers that answer otherwise in it."""
    if model.path.startswith("torchvision.models.") and model.path.count("(") == 1:
        return True
    kind = model.made_by
    return kind is not None and "torch.nn.Module" in kind.bases and _is_lossy(kind)


def _is_lossy(kind: Class) -> bool:
    spelled = {n.attr if isinstance(n, ast.Attribute) else n.id for n in ast.walk(kind.node)
               if isinstance(n, ast.Attribute | ast.Name)}  # fmt: skip
    return any(word.startswith(LOSSY) for word in spelled) and not spelled & {"eval", "train"}
