"""Programs that quantize: calibrated or not, converted or not, trained afterwards."""

import ast
from collections.abc import Iterator
from itertools import islice

from strop_api.checks.source import CONVERT_MISUSE, MISSING_CALIBRATION, QUANTIZE_BEFORE_TRAIN
from strop_job.audit.source.events import Event, Flow
from strop_job.audit.source.known import (
    CONVERTS,
    EAGER,
    NO_LOOK,
    PREPARES,
    in_place,
    looks,
    onnx_quantizer,
    quantization,
    quantizes,
)
from strop_job.audit.source.located import Located, at
from strop_job.audit.source.program import Program, expects_failure
from strop_job.audit.source.values import Value

STATIC = ("get_default_qconfig", "get_default_qconfig_mapping", "default_qconfig", "get_symmetric_quantization_config",
          "get_default_x86_inductor_quantization_config", "get_default_arm_inductor_quantization_config",
          "get_default_qat_qconfig", "get_default_qat_qconfig_mapping")  # fmt: skip
"""Recipes that need ranges of activations."""
NOT_STATIC = ("dynamic", "weight_only", "weightonly", "float16")
KNOWN_MODELS = ("torchvision.models.", "timm.create_model", "torch.nn.")


def missing_calibration(flow: Flow, program: Program) -> Iterator[Located]:
    """A model that is prepared and converted, with nothing run through it in between."""
    prepared: dict[Value, int] = {}
    for index, event in enumerate(flow.events):
        name = quantization(event)
        if name in PREPARES and event.argument(0, "model") is not None and _needs_samples(event):
            prepared |= dict.fromkeys(_prepares(event), index)
        elif name in CONVERTS and (model := event.argument(0, "model")) is not None:
            untouched = all(_raw(choice, prepared, flow, index) for choice in model.choices())
            if untouched and not _excused(event, flow) and not _fed_elsewhere(model, prepared, flow, index, program):
                yield at(event.node, MISSING_CALIBRATION, f"{name} of a model that nothing was run through")
    yield from _without_reader(flow)


def _prepares(event: Event) -> list[Value]:
    """The values that are prepared from now on."""
    model = event.argument(0, "model")
    return [event.result, *([model] if model is not None and in_place(event) else [])]


def _raw(value: Value, prepared: dict[Value, int], flow: Flow, until: int) -> bool:
    """Whether the value is a prepared model, or a copy of one, that nothing has looked at since."""
    lines = list(value.originals())
    start = next((prepared[line] for line in lines if line in prepared), None)
    if start is None:
        return False
    origin = flow.events[start].argument(0, "model") if "pt2e" in flow.events[start].name else None
    since = list(islice(flow.events, start + 1, until))
    watched = [*lines[: next(i for i, line in enumerate(lines) if line in prepared) + 1]]
    watched += [origin] if origin is not None else []
    return not any(looks(event) and any(event.touches(part) for part in watched) for event in since)


def _fed_elsewhere(model: Value, prepared: dict[Value, int], flow: Flow, until: int, program: Program) -> bool:
    """Whether the prepared model lies where another function reaches it, which may have run batches through it."""
    for line in (line for choice in model.choices() for line in choice.originals() if line in prepared and line.kept):
        start = prepared[line]
        if start < flow.made_before <= until:
            return True
        own = {program.around(flow.events[at].node) for at in (start, until)}
        chance = len(own) > 1 or any(looks(event) for event in flow.events[start + 1 : until])
        if chance and any(_runs(function, line.kept) for function in program.functions if function not in own):
            return True
    return False


def _runs(function: ast.AST, names: set[str]) -> bool:
    """Whether a function calls what is stored under one of the names, or gives it to something that may."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return any(_spelled(part) in names for call in calls for part in _used_by(call))


def _used_by(call: ast.Call) -> Iterator[ast.expr]:
    yield call.func
    if _spelled(call.func) not in PREPARES | CONVERTS | NO_LOOK:
        yield from call.args
        yield from (keyword.value for keyword in call.keywords)


def _spelled(node: ast.expr) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(value=inner) | ast.Starred(value=inner):
            return _spelled(inner)
    return ""


def _needs_samples(event: Event) -> bool:
    """Whether the recipe is known to need ranges of activations."""
    recipe = _recipe(event)
    if recipe is None:
        return False
    words = {word.lower() for part in recipe.reach() for word in (part.path, *part.words, str(part.const)) if word}
    if any(sign in word for word in words for sign in NOT_STATIC):
        return False
    return all(_is_static(choice) for choice in recipe.choices())


def _is_static(recipe: Value) -> bool:
    return any(part.path.removesuffix("()").rpartition(".")[2] in STATIC for part in recipe.reach())


def _recipe(event: Event) -> Value | None:
    """The quantizer, the mapping, or what the model's qconfig was set to."""
    name = quantization(event)
    if name in EAGER:
        model = event.argument(0, "model")
        found = [part.attrs["qconfig"] for part in (model.reach() if model else ()) if "qconfig" in part.attrs]
        return Value(options=tuple(found)) if found else None
    return event.argument(1, "quantizer", "qconfig_mapping", "qconfig_dict")


def _without_reader(flow: Flow) -> Iterator[Located]:
    for event in flow.events:
        if event.open_ended or _excused(event, flow):
            continue
        if onnx_quantizer(event) == "quantize_static" and "calibration_cache_path" not in event.keywords:
            reader = event.argument(2, "calibration_data_reader")
            if reader is None or reader.const is None or all(_is_empty(choice) for choice in reader.choices()):
                yield at(event.node, MISSING_CALIBRATION, "quantize_static with a reader that yields nothing")
        data = event.argument(1, "calibration_dataset") if event.name == "nncf.quantize" else None
        if data is not None and data.path == "nncf.Dataset()" and any(part.items == [] for part in data.parents):
            yield at(event.node, MISSING_CALIBRATION, "nncf.quantize with an empty dataset")


def _is_empty(reader: Value) -> bool:
    """Whether it is a reader of this file whose get_next gives nothing the first time."""
    method = reader.made_by.methods.get("get_next") if reader.made_by is not None else None
    if method is None or any(isinstance(node, ast.Yield | ast.Raise) for node in ast.walk(method)):
        return False
    returns = [node.value for node in ast.walk(method) if isinstance(node, ast.Return)]
    return all(_gives_nothing(value, reader) for value in returns)


def _gives_nothing(value: ast.expr | None, reader: Value) -> bool:
    match value:
        case None | ast.Constant(value=None):
            return True
        case ast.Call(func=ast.Name(id="next"), args=[ast.Attribute(value=ast.Name(id="self"), attr=name), _]):
            source = reader.attrs.get(name)
            return source is not None and source.path == "iter()" and [p.items for p in source.parents] == [[]]
    return False


def convert_misuse(flow: Flow, program: Program) -> Iterator[Located]:
    """prepare or convert whose result is dropped, and convert of a model that was never prepared."""
    for index, event in enumerate(flow.events):
        name = quantization(event)
        if name not in PREPARES | CONVERTS or _excused(event, flow) or event.open_ended or event.at.tried:
            continue
        if event.dropped and not in_place(event) and "pt2e" not in name:
            yield at(event.node, CONVERT_MISUSE, f"the model that {name} returns is not used")
        elif name in CONVERTS and _never_prepared(event, flow.events[:index], flow.made_before):
            yield at(event.node, CONVERT_MISUSE, f"{name} of a model that was not prepared")


def _never_prepared(event: Event, before: list[Event], made_before: int) -> bool:
    """Whether all that was done with the model is known, and prepare is not in it."""
    model = event.argument(0, "model")
    if model is None or "mapping" in event.keywords or len(event.args) > 1 or len(model.choices()) > 1:
        return False
    lines = list(model.originals())
    if any(line.kept and any(line is former.result for former in before[:made_before]) for line in lines):
        return False
    known = lines[-1].made_by is not None or lines[-1].path.startswith(KNOWN_MODELS)
    touching = [former for former in before if any(former.touches(line) for line in lines)]
    return known and all(not looks(former) or former.name == "()" for former in touching)


def quantize_before_train(flow: Flow, program: Program) -> Iterator[Located]:
    """A quantized model whose parameters an optimizer then moves."""
    for index, event in enumerate(flow.events):
        model = quantizes(event)
        if model is None or _excused(event, flow):
            continue
        trained = _trained(model, flow, index, moved_in_place=model is not event.result)
        if trained is not None:
            line = getattr(trained.node, "lineno", 0)
            yield at(event.node, QUANTIZE_BEFORE_TRAIN, f"the quantized model is trained at line {line}")


def _trained(model: Value, flow: Flow, index: int, *, moved_in_place: bool) -> Event | None:
    """The call that trains the model after it was quantized."""
    after = flow.events[index + 1 :]
    asked = flow.events if moved_in_place else after
    parameters = [e.result for e in asked if e.method in ("parameters", "named_parameters") and _is(e.receiver, model)]
    optimizers = [e for e in asked if e.name.startswith("torch.optim.") and _is_optimizer_of(e, parameters)]
    updated = [choice for optimizer in optimizers for choice in optimizer.result.choices()]
    for step in after:
        if step.receiver is None:
            continue
        if step.name == "transformers.Trainer().train" and any(_is(part, model) for part in step.receiver.parents):
            return step
        if step.method == "step" and step.receiver in updated and _has_backward(after, step):
            return step
    return None


def _is(value: Value | None, model: Value) -> bool:
    return value is not None and all(model in choice.originals() for choice in value.choices())


def _is_optimizer_of(event: Event, parameters: list[Value]) -> bool:
    given = event.argument(0, "params")
    return given is not None and any(part in given.reach() for part in parameters)


def _has_backward(events: list[Event], step: Event) -> bool:
    return any(event.method == "backward" for event in events[: events.index(step)])


def _excused(event: Event, flow: Flow) -> bool:
    """In a test, wrong use may be the point."""
    return flow.test or expects_failure(event.at)
