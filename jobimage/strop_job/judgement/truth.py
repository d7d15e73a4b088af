"""The gates on what an engine is: that it computes its own graph, at the precision asked, close to the original."""

from collections.abc import Iterator, Mapping
from typing import Any

from strop_api.base import percent
from strop_api.status import GateStatus, GateVerdict
from strop_job.backends.base import ASKED_FORMATS
from strop_job.judgement.case import Case
from strop_job.judgement.figures import figure, percent_text
from strop_job.judgement.verdicts import (
    agreement_interval,
    at_least,
    at_most,
    fidelity_at_least,
    unmeasured,
    verdict,
)

NAMES_SHOWN = 48
"""Characters of a layer's name in a gate's words, its end: what tells layers of one model apart stands there."""


def compile_parity(case: Case) -> Iterator[GateStatus]:
    """Always on: the engine agrees with the same graph run with optimizations off."""
    name, facts = "compileParity", case.seen.parity
    if facts is None or facts.get("tolerance") is None:
        yield unmeasured(name, "the engine was not compared with the graph it was compiled from")
        return
    if case.seen.original_parity and case.seen.original_parity.get("passed") is not True:
        yield unmeasured(name, _original_is_no_measure(case.seen.original_parity))
        return
    bound = float(facts["tolerance"])
    if facts.get("worst") is None:
        message = _broken(facts) + _first_layer(facts)
        yield GateStatus(gate=name, verdict=GateVerdict.MISSED, bound=figure(bound), message=message[:256])
        return
    worst = float(facts["worst"])
    relation = "is within" if at_most(worst, bound) else "is beyond"
    message = f"the engine differs from its own graph by {worst:.2g} at worst, which {relation} {bound:.2g}"
    yield verdict(name, at_most(worst, bound), worst, bound, message + _first_layer(facts))


def _original_is_no_measure(facts: Mapping[str, Any]) -> str:
    worst, bound = facts.get("worst"), facts.get("tolerance")
    off = "by more than can be said" if worst is None else f"by {worst:.2g} at worst, beyond {bound:.2g}"
    return f"the original, compiled, differs from its own graph {off}: no figure against it means anything"


def _broken(facts: Mapping[str, Any]) -> str:
    """Where an engine answers with something that cannot be compared."""
    points = [point for point in facts.get("shapes", []) if point.get("error") is None]
    sizes = points[0].get("sizes", {}) if points else {}
    where = ", ".join(f"{name}={size}" for name, size in sizes.items()) or "the fixed shape"
    return f"the engine's outputs are missing, misshapen, NaN or infinite at {where}, and the original's are not"


def _first_layer(facts: Mapping[str, Any]) -> str:
    """The first layer that diverges, or why none is named; nothing where nothing was searched."""
    found = facts.get("divergence")
    if not isinstance(found, Mapping):
        return ""
    if not found.get("node"):
        return f"; {found.get('note', 'the layer was not located')}"
    error = found.get("error")
    off = "not finite" if error is None else f"off by {error:.2g}"
    return f"; first diverging layer: {found['operator']} `{_end(str(found['node']))}`, {off}"


def _end(name: str) -> str:
    return name if len(name) <= NAMES_SHOWN else "…" + name[1 - NAMES_SHOWN :]


def fidelity(case: Case) -> Iterator[GateStatus]:
    """Closeness to the original's outputs on real data: cosine, agreement, SQNR."""
    gate, seen = case.gates.fidelity, case.seen
    if gate is None:
        return
    if gate.cosine_min is not None and "sqnrDecibels" in seen.fidelity and "cosine" not in seen.fidelity:
        yield unmeasured("fidelity.cosineMin", "a single number has no direction: hold it against sqnrMinDecibels")
    elif gate.cosine_min is not None:
        yield fidelity_at_least(
            seen, "cosine", "fidelity.cosineMin", "cosine similarity", float(gate.cosine_min), "{:.4f}"
        )
    if gate.agreement_min is not None:
        bound = percent(gate.agreement_min)
        status = fidelity_at_least(seen, "agreement", "fidelity.agreementMin", "agreement", bound, "{:.2%}")
        yield status.model_copy(update=agreement_interval(seen))
    if gate.sqnr_min_decibels is not None:
        bound = float(gate.sqnr_min_decibels)
        yield fidelity_at_least(seen, "sqnrDecibels", "fidelity.sqnrMinDecibels", "SQNR", bound, "{:.1f} dB")


def realised_precision(case: Case) -> Iterator[GateStatus]:
    """Share of the multiply-accumulates that the engine really does at the precision asked for last."""
    gate, name, seen = case.gates.realised_precision, "realisedPrecision", case.seen.inspection
    if gate is None:
        return
    if case.asked is None:
        yield unmeasured(name, "no step asks for a precision")
        return
    macs, by_format = seen.get("macs"), seen.get("macsByFormat")
    if not isinstance(macs, int) or not isinstance(by_format, Mapping):
        yield unmeasured(name, f"the engine was not inspected{_because(seen)}")
        return
    if macs <= 0:
        yield unmeasured(name, f"no multiply-accumulates were found in the engine{_because(seen)}")
        return
    if left := seen.get("uncounted"):
        yield unmeasured(name, f"the compute of {_listed(left)} was not counted, so no share of all can be given")
        return
    bound, share = percent(gate.min), by_format.get(ASKED_FORMATS[case.asked].value, 0) / macs
    passed = at_least(share, bound)
    rest = {kind: part for kind, part in by_format.items() if kind != ASKED_FORMATS[case.asked].value}
    others = ", ".join(f"{percent_text(part / macs)} in {kind}" for kind, part in sorted(rest.items()) if part)
    found = f"{percent_text(share)} of the multiply-accumulates run in {case.asked}{f' ({others})' if others else ''}"
    side = "reaches" if passed else "is below"
    yield verdict(name, passed, share, bound, f"{found}, which {side} {percent_text(bound)}")


def _because(seen: Mapping[str, Any]) -> str:
    note = str(seen.get("note") or "").removeprefix("not inspected: ").removeprefix("not inspected")
    return f": {note}" if note else ""


def _listed(left: object) -> str:
    pairs = left.items() if isinstance(left, Mapping) else ()
    return " and ".join(f"{count} {operator}" for operator, count in pairs) or "some layers"
