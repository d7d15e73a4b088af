"""The child process of a shaping step: `python -m strop_job.shaping.child order.json`. Its answer is `result.json`."""

import importlib
import json
import sys
from pathlib import Path

import torch
from pydantic import JsonValue, TypeAdapter

from strop_api.optimization import ModelOptimizationSpec
from strop_job.audit.facts import as_facts
from strop_job.models.answering import answer
from strop_job.models.torch_model import load_model, save_model
from strop_job.shaping.handlers import TECHNIQUES
from strop_job.shaping.order import FACTS, OUT, ShapingOrder
from strop_job.shaping.workshop import Handler, Workshop
from strop_job.training.trainer import Stopped


def main() -> int:
    """Read the order, carry it out, write the result."""
    order = TypeAdapter(ShapingOrder).validate_json(Path(sys.argv[1]).read_bytes())
    step = ModelOptimizationSpec.model_validate(order.spec).steps[order.step]
    return answer(
        Path(order.folder),
        f"step {step.name}",
        lambda: carry_out(order),
        locked_to=_readable(order),
        field=f"spec.steps[{order.step}]",
    )


def carry_out(order: ShapingOrder) -> None:
    """The step, its figures and its files."""
    spec = ModelOptimizationSpec.model_validate(order.spec)
    step = spec.steps[order.step]
    device = _device()
    _settle(spec.seed + order.step, order.threads)
    code = Path(order.code) if order.code else None
    shop = Workshop(order, spec, step, load_model(spec.model, order.model.artifact, code), device)
    technique = TECHNIQUES[step.type]
    try:
        facts = _sized(shop, "before") | _handler(technique.handler)(shop) | _sized(shop, "after")
    except Stopped:
        shop.stopped()
        return
    shop.module.cpu().eval()
    files = save_model(shop.model, spec.model, code, Path(order.folder) / OUT)
    facts |= {"device": device.type, **as_facts(shop.findings)}
    (Path(order.folder) / FACTS).write_text(json.dumps({"files": list(files), "facts": facts}))


def _handler(path: str) -> Handler:
    module, _, name = path.partition(":")
    found: Handler = getattr(importlib.import_module(module), name)
    return found


def _sized(shop: Workshop, when: str) -> dict[str, JsonValue]:
    """Size and validation metric; the latter where there is such a set."""
    found: dict[str, JsonValue] = {"parameters": shop.model.parameters, "zeros": shop.model.zeros}
    if "validation" in shop.order.data:
        metric = shop.measure(shop.module)
        found |= {"metric": metric.name, "figure": metric.figure, "samples": metric.count}
    return {when: found}


def _settle(seed: int, threads: int) -> None:
    """The same seed gives the same bytes on the same machine."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _readable(order: ShapingOrder) -> list[Path] | None:
    """What a locked-in child may read; None for one that is not."""
    if not order.isolated:
        return None
    given = (order.model, order.original, *order.data.values(), *order.extras.values())
    return [*(Path(g.folder) for g in given), *([Path(order.code)] if order.code else [])]


if __name__ == "__main__":
    sys.exit(main())
