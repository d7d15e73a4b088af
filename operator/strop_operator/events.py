"""Writes Kubernetes Events at transitions that a person would want to read of."""

import logging
import re
from collections.abc import Iterator

from strop_api import API_VERSION
from strop_api.findings import Severity
from strop_api.optimization import KIND
from strop_api.reasons import Reason
from strop_api.status import ConditionType, ModelOptimizationStatus
from strop_operator import leader, paths
from strop_operator.client import ApiError, Client, Json
from strop_operator.decision import Decision
from strop_operator.drift import TOLD_FROM, WORST_FIRST, stale
from strop_operator.facts import ResourceFact, timestamp
from strop_operator.status import STALLED, clean

log = logging.getLogger(__name__)

NORMAL = frozenset({Reason.LAUNCHED, Reason.PUBLISHED, Reason.SUSPENDED})
WARNING = STALLED | {
    Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED, Reason.POD_REFUSED, Reason.RESULT_LOST, Reason.CLEAN_UP_FAILED,
}  # fmt: skip
FINDINGS, CHECK_FAILED, LEFT = "Findings", "DriftCheckFailed", "ArtifactsLeft"
"""Reasons of Events that are no reasons of conditions."""
MESSAGE_LIMIT = 1000
WORKLOAD = re.compile(r"Created Workload: [a-z0-9-]+/([a-z0-9.-]+)$")


def event(fact: ResourceFact, reason: str, message: str, now: float, identity: str) -> Json:
    """A core/v1 Event about a resource."""
    about = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "namespace": fact.namespace,
        "name": fact.name,
        "uid": fact.uid,
        "resourceVersion": str(fact.version),
    }
    return _event(about, fact.name, reason, message, now, identity)


def event_at_home(fact: ResourceFact, reason: str, message: str, now: float, identity: str, home: str) -> Json:
    """The same, beside the operator's Lease: in a namespace that ends nothing can be written down."""
    about = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "namespace": home, "name": leader.NAME}
    message = f"{KIND} {fact.namespace}/{fact.name} ({fact.uid}): {message}"
    return _event(about, leader.NAME, reason, message, now, identity)


def _event(about: Json, name: str, reason: str, message: str, now: float, identity: str) -> Json:
    at = timestamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{name[:200]}.", "namespace": about["namespace"]},
        "involvedObject": about,
        "type": "Normal" if reason in NORMAL else "Warning",
        "reason": reason,
        "message": clean(message, MESSAGE_LIMIT),
        "source": {"component": "strop-operator", "host": identity[:63]},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def worth_telling(before: Reason | None, reason: Reason | None) -> bool:
    """Only transitions, and of those only what somebody acts upon: on a good day two for a run."""
    return reason is not None and reason is not before and reason in NORMAL | WARNING


def remarks(
    before: ModelOptimizationStatus, decision: Decision, after: ModelOptimizationStatus
) -> Iterator[tuple[str, str]]:
    """Reason and message of each Event that a new status deserves."""
    ready = next((c.reason for c in before.conditions if c.type is ConditionType.READY), None)
    if decision.reason is not None and worth_telling(ready, decision.reason):
        yield str(decision.reason), decision.message
    if decision.ending is not None and (grave := _grave(after)):
        yield FINDINGS, grave
    was, now = stale(before), stale(after)
    if now is not None and now.reason in WORST_FIRST and (was is None or was.reason is not now.reason):
        yield str(now.reason), now.message
    if decision.checked is not None and decision.checked.problem and (after.check_failures or 0) >= TOLD_FROM:
        yield CHECK_FAILED, f"{after.check_failures} times in a row: {decision.checked.problem}"


def _grave(status: ModelOptimizationStatus) -> str:
    """What the checks found that a person should not overlook, in one line."""
    grave = [found for found in status.findings if found.severity in (Severity.CRITICAL, Severity.HIGH)]
    return "; ".join(f"{found.severity} {found.check}: {found.message}" for found in grave)


def newest(events: list[Json]) -> str:
    """Reason and words of the last of some Events; empty when there is none."""
    if not events:
        return ""
    last = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return steady(f"{last.get('reason', '')}: {last.get('message', '')}")[:1024]


def by_kueue(event: Json) -> bool:
    """Whether Kueue said so, and not Kubernetes' own controller of Jobs."""
    said_by = event.get("reportingComponent") or (event.get("source") or {}).get("component") or ""
    return event["involvedObject"].get("kind") == "Workload" or "kueue" in said_by


def workload(events: list[Json]) -> str:
    """Name of the Workload that Kueue has made of a Job, from what it says of the Job; empty when it says nothing."""
    made = (WORKLOAD.search(event.get("message", "")) for event in events if event.get("reason") == "CreatedWorkload")
    return next((found[1] for found in made if found is not None), "")


def steady(message: str) -> str:
    """Words of a controller without the part of a pod's name that is another at each attempt: every change of a message
    is a write of the status."""
    return re.sub(r'(pods "[^"]*-)[a-z0-9]{5}"', r'\1…"', message)


async def write(client: Client, body: Json) -> None:
    """Write the Event; one that cannot be written is only logged, for the status says the same."""
    about = body["involvedObject"]
    try:
        await client.post(paths.events(about["namespace"]), body)
    except (ApiError, OSError, TimeoutError) as error:
        log.warning("no Event for %s/%s: %s", about["namespace"], about["name"], error)
