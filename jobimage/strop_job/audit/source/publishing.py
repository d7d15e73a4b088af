"""Programs that write an optimized model and end without having run it."""

from collections.abc import Iterator

from strop_api.checks.source import MISSING_EVALUATION
from strop_job.audit.source.events import Event, Flow
from strop_job.audit.source.exporting import mentions
from strop_job.audit.source.known import TRANSFORMS, looks, onnx_quantizer, quantization, quantizes, saves
from strop_job.audit.source.located import Located, at
from strop_job.audit.source.program import Program, expects_failure
from strop_job.audit.source.values import Value

RUNS = frozenset({"InferenceSession", "openvino", "tensorrt", "ReferenceEvaluator", "subprocess", "system", "evaluate"})
"""Words of a program that runs ONNX files, or leaves it to another program."""
PRUNES = ("torch.nn.utils.prune.",)


def missing_evaluation(flow: Flow, program: Program) -> Iterator[Located]:
    """A quantized or pruned model that is saved and that nothing has judged."""
    if not flow.is_program or flow.test:
        return
    yield from _files(flow, program)
    for index, event in enumerate(flow.events):
        model = _optimized(event)
        if model is not None and not expects_failure(event.at) and not event.at.tests:
            yield from _unjudged(model, flow.events[index + 1 :])


def _optimized(event: Event) -> Value | None:
    model = quantizes(event)
    if model is not None:
        return model
    if event.name.startswith(PRUNES) and event.method == "remove" and event.args:
        return event.args[0].choices()[0]
    return None


def _unjudged(model: Value, after: list[Event]) -> Iterator[Located]:
    """The first save of the model, if no call but saves and changes of form ever sees it."""
    touching = [event for event in after if event.touches(model)]
    saved = [event for event in touching if saves(event)]
    targets = [value for event in saved for value in event.args if isinstance(value.const, str)]
    judged = [event for event in touching if _judges(event) and event not in saved]
    others = [event for event in after if looks(event) and event not in saved]
    judged += [event for event in others if any(mentions(event, target) for target in targets)]
    tool = any("parse_args" in part.path for event in saved for given in event.given() for part in given.reach())
    if saved and not judged and not tool:
        yield at(saved[0].node, MISSING_EVALUATION, "the optimized model is saved, and nothing ever runs it")


def _judges(event: Event) -> bool:
    changes = event.name in TRANSFORMS or quantizes(event) is not None or bool(quantization(event))
    return looks(event) and not changes and not event.name.startswith(PRUNES)


def _files(flow: Flow, program: Program) -> Iterator[Located]:
    """ONNX files made by a quantizer and not opened afterwards."""
    if program.words & RUNS:
        return
    for index, event in enumerate(flow.events):
        if onnx_quantizer(event) not in ("quantize_static", "quantize_dynamic") or event.open_ended:
            continue
        target = event.argument(1, "model_output")
        if target is None or not isinstance(target.const, str):
            continue
        if not any(looks(later) and mentions(later, target) for later in flow.events[index + 1 :]):
            yield at(event.node, MISSING_EVALUATION, f"{target.const[:60]} is written, and nothing ever runs it")
