"""With what an engine was measured, as far as a server must be given the same; read from the engine's facts."""

from collections.abc import Mapping

from strop_api.targets import Target
from strop_job.hardware import Hardware, this_machine
from strop_job.stages import Facts

TOLD = {
    "runtime": "runtime",
    "version": "version",
    "provider": "provider",
    "loadsIn": "loads-in",
    "runsOn": "runs-on",
    "inferencePrecision": "precision",
}
"""Facts of an engine that a server's operator must know, and what each is called."""


def threads_of(target: Target, hardware: Hardware | None = None) -> int | None:
    """Threads of one call as they were measured; None for an accelerator, where they are no figure of the engine."""
    return None if target.accelerator is not None else (hardware or this_machine()).threads_for(target)


def measured_with(facts: Facts, threads: int | None) -> Mapping[str, str]:
    """What is known, by short names; settings of a runtime under the runtime's own names, such as NUM_STREAMS."""
    known = {called: str(facts[name]) for name, called in TOLD.items() if facts.get(name)}
    properties = facts.get("properties")
    settings = {k: str(v) for k, v in properties.items()} if isinstance(properties, dict) else {}
    return known | ({"threads": str(threads)} if threads else {}) | settings
