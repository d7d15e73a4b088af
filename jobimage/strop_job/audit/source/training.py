"""Programs that train in FP16."""

from collections.abc import Iterator

from strop_api.checks.source import FP16_WITHOUT_SCALER
from strop_job.audit.source.events import Event, Flow
from strop_job.audit.source.located import Located, at
from strop_job.audit.source.program import Program, expects_failure, made_by
from strop_job.audit.source.values import Value

AUTOCASTS = {
    "torch.autocast": (0, 1, 2),
    "torch.amp.autocast": (0, 1, 2),
    "torch.amp.autocast_mode.autocast": (0, 1, 2),
    "torch.cuda.amp.autocast": (-1, 1, 0),
    "torch.cuda.amp.autocast_mode.autocast": (-1, 1, 0),
}
"""Positions of the device, the dtype and `enabled`."""
HALF = ("torch.float16", "torch.half")
SCALING = ("scaler", "loss_scal", "scale_loss", "lossscal", "accelerat", "deepspeed", "apex", "fabric", "lightning")
"""Parts of words of a program that scales its loss, or leaves training to a library that does."""
DEFAULTS = ("set_autocast_gpu_dtype", "set_autocast_dtype", "set_autocast_cuda_dtype")


def fp16_without_scaler(flow: Flow, program: Program) -> Iterator[Located]:
    """A loss made under FP16 autocast whose gradients go to the optimizer as they are."""
    words = {word.lower() for word in program.words}
    if flow.test or any(sign in word for word in words for sign in SCALING) or words & set(DEFAULTS):
        return
    made = made_by(flow)
    for index, event in enumerate(flow.events):
        if event.method != "backward" or event.receiver is None or expects_failure(event.at):
            continue
        manager = _half_around(event, flow.events[:index], made)
        if manager is not None and any(_is_update(later) for later in flow.events[index:]):
            line = getattr(event.node, "lineno", 0)
            message = f"the loss goes to backward() at line {line} unscaled, from FP16 autocast"
            yield at(manager.node, FP16_WITHOUT_SCALER, message)


def _half_around(backward: Event, before: list[Event], made: dict[Value, Event]) -> Event | None:
    """The FP16 autocast under which what is differentiated was made."""
    loss = backward.receiver.reach() if backward.receiver is not None else set()
    for event in reversed(before):
        if event.result in loss:
            for manager in reversed(event.at.managers):
                source = made.get(manager)
                if source is not None and source.name in AUTOCASTS and _is_half(source):
                    return source
    return None


def _is_half(autocast: Event) -> bool:
    """Whether it is known to be FP16: asked for, or the default of CUDA."""
    device, dtype, enabled = (
        autocast.argument(position, name)
        for position, name in zip(AUTOCASTS[autocast.name], ("device_type", "dtype", "enabled"), strict=True)
    )
    if autocast.open_ended or (enabled is not None and enabled.const is False):
        return False
    if dtype is not None and dtype.const is not None:
        return len(dtype.choices()) == 1 and dtype.path in HALF
    return ".cuda." in autocast.name or (device is not None and str(device.const).startswith("cuda"))


def _is_update(event: Event) -> bool:
    """Whether it is the step of an optimizer, as far as its name or its origin tells."""
    if event.method != "step" or event.receiver is None:
        return False
    origin = event.receiver
    if origin.path:
        return "optim" in origin.path and "lr_scheduler" not in origin.path
    spelled = getattr(getattr(event.node, "func", None), "value", None)
    name = getattr(spelled, "attr", None) or getattr(spelled, "id", "")
    return "opt" in str(name).lower() or str(name).lower() in ("sgd", "adam")
