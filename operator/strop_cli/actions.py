"""What the command line changes of a resource: another run, a pause, the end of a pause. Nothing else is written."""

from datetime import UTC, datetime

from strop_api.identity import RERUN_ANNOTATION
from strop_api.reasons import Reason
from strop_api.status import ConditionType
from strop_cli import find
from strop_cli.cluster import Cluster
from strop_cli.errors import CliError, Conflict
from strop_cli.kinds import OPTIMIZATIONS
from strop_cli.optimizations import Optimization, is_current, parse

ATTEMPTS = 3
BY_SPEC = frozenset({Reason.INVALID_SPEC, Reason.NOT_ALLOWED, Reason.NO_POLICY})
"""Reasons that another run meets again."""


def retry(cluster: Cluster, name: str, *, force: bool) -> Optimization:
    """Ask for another run by a new value of the annotation. Raises CliError while a run goes on, unless it is forced:
    what that one has not recorded yet would be lost."""
    for left in reversed(range(ATTEMPTS)):
        found = find.one(cluster, name)
        _may_retry(found, force)
        token = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        # The version makes the check above hold: a run that began in between is a conflict.
        metadata = {"resourceVersion": found.version, "annotations": {RERUN_ANNOTATION: token}}
        try:
            return parse(cluster.merge(OPTIMIZATIONS, name, {"metadata": metadata}))
        except Conflict:
            if left == 0:
                raise
    raise AssertionError("unreachable")


def _may_retry(found: Optimization, force: bool) -> None:
    ready = found.ready
    if found.spec.get("suspend"):
        raise CliError(f"{found.name} is suspended", mend=f"strop resume {found.name} lets it go on")
    if ready is not None and is_current(found) and ready.reason in BY_SPEC:
        raise CliError(
            f"{found.name} would end the same way: {ready.reason}: {ready.message}",
            mend="mend the spec, or the policy: that starts a run by itself",
        )
    going_on = ready is None or not is_current(found) or found.condition(ConditionType.RECONCILING) is not None
    if going_on and not force:
        raise CliError(
            f"a run of {found.name} is wanted already ({ready.reason if ready is not None else 'not seen yet'})",
            mend="wait for it, or give --force to stop it and begin another",
        )


def set_suspend(cluster: Cluster, name: str, wanted: bool) -> tuple[Optimization, bool]:
    """Set spec.suspend; the resource, and whether that changed anything."""
    found = find.one(cluster, name)
    if bool(found.spec.get("suspend", False)) is wanted:
        return found, False
    return parse(cluster.merge(OPTIMIZATIONS, name, {"spec": {"suspend": wanted}})), True
