"""The realised precision of an engine: the share of its compute at the format asked for, and what stayed high."""

from collections.abc import Mapping, Sequence
from typing import Any

from strop_api.checks.graph import NOT_REALISED, UNSEEN
from strop_api.findings import Finding
from strop_api.steps import Precision
from strop_job.audit.graph.reading import named
from strop_job.backends.base import ASKED_FORMATS

LEAST_SHARE = 0.8
"""Of the multiply-accumulates. Below it, by Amdahl's law, twice as fast arithmetic gains less than 1.67 times."""
LISTED = 3


def precision_findings(inspection: Mapping[str, Any], asked: Precision) -> list[Finding]:
    """From an inspection's facts. What could not be counted is said, and no share is claimed then."""
    total = inspection.get("macs")
    uncounted: Mapping[str, int] = inspection.get("uncounted") or {}
    if not inspection.get("inspected") or uncounted:
        why = "not inspected" if not uncounted else f"{named([*uncounted])} multiply and are not counted"
        note = str(inspection.get("note") or "")
        return [UNSEEN.finding(f"what share of the compute runs in {asked} is not known: {note or why}")]
    if not total:
        return []
    wanted = ASKED_FORMATS[asked].value
    share = float((inspection.get("macsByFormat") or {}).get(wanted, 0)) / float(total)
    if share >= LEAST_SHARE:
        return []
    return [_finding(inspection.get("layers") or [], wanted, share, float(total))]


def _finding(layers: Sequence[Mapping[str, Any]], wanted: str, share: float, total: float) -> Finding:
    high = staying_high(layers, (wanted,), total)
    return NOT_REALISED.finding(f"{share:.0%} of the compute runs in {wanted}; high stayed {high}")


def staying_high(layers: Sequence[Mapping[str, Any]], wanted: Sequence[str], total: float) -> str:
    """The heaviest layers of other formats, each with its format and its share of the compute."""
    high = sorted((one for one in layers if one["format"] not in wanted and one["macs"]), key=lambda one: -one["macs"])
    shown = [f"`{one['name']}` ({one['format']}, {one['macs'] / total:.0%})" for one in high[:LISTED]]
    more = f" and {len(high) - LISTED} more" if len(high) > LISTED else ""
    return (", ".join(shown) or "layers that are not listed") + more
