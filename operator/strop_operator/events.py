"""Writes Kubernetes Events at transitions that a person would want to read of."""

import logging

from strop_api import API_VERSION
from strop_api.optimization import KIND
from strop_api.reasons import Reason
from strop_operator import paths
from strop_operator.client import ApiError, Client, Json
from strop_operator.facts import ResourceFact, timestamp
from strop_operator.status import STALLED

log = logging.getLogger(__name__)

NORMAL = frozenset({Reason.LAUNCHED, Reason.PUBLISHED, Reason.SUSPENDED})
WARNING = STALLED | {Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED, Reason.POD_REFUSED, Reason.RESULT_LOST}


def event(fact: ResourceFact, reason: Reason, message: str, now: float, identity: str) -> Json:
    """A core/v1 Event about a resource."""
    at = timestamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{fact.name[:200]}.", "namespace": fact.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": fact.namespace,
            "name": fact.name,
            "uid": fact.uid,
            "resourceVersion": str(fact.version),
        },
        "type": "Normal" if reason in NORMAL else "Warning",
        "reason": str(reason),
        "message": message[:1000],
        "source": {"component": "strop-operator", "host": identity[:63]},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def worth_telling(before: Reason | None, reason: Reason | None) -> bool:
    """Only transitions, and of those only what somebody acts upon: on a good day two for a run."""
    return reason is not None and reason is not before and reason in NORMAL | WARNING


async def tell(client: Client, fact: ResourceFact, reason: Reason, message: str, now: float, identity: str) -> None:
    """Write the Event; one that cannot be written is only logged, for the status says the same."""
    try:
        await client.post(paths.events(fact.namespace), event(fact, reason, message, now, identity))
    except (ApiError, OSError, TimeoutError) as error:
        log.warning("no Event for %s/%s: %s", fact.namespace, fact.name, error)
