"""The only writer: at most one Job write and one status patch for a decision, or the finalizer; none when nothing
changed."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from strop_api.errands import ErrandKind
from strop_api.grants import Grant
from strop_api.reasons import Reason
from strop_api.status import ModelOptimizationStatus
from strop_operator import farewell, paths, status
from strop_operator.build import build_job
from strop_operator.cache import Cache
from strop_operator.client import ApiError, Client
from strop_operator.decision import Action, Checked, Decision
from strop_operator.drift import artifact
from strop_operator.errands import build_errand, clean_up_request, drift_request, errand_name
from strop_operator.facts import JobFact, job_fact, resource_fact
from strop_operator.observe import Observed

log = logging.getLogger(__name__)

CONFLICT_SECONDS = 60.0
REFUSED_SECONDS = 30.0
ERRAND_SECONDS = 2.0
"""An errand's namesake that the watch has not told of is told of within this, or is on its way out."""


@dataclass(frozen=True)
class Applied:
    """What became of a decision."""

    decision: Decision
    """As carried out: a refused write changes reason and message."""
    patched: bool
    """Whether the status was written."""
    status: ModelOptimizationStatus
    """As it is now."""


async def apply(client: Client, cache: Cache, seen: Observed, decision: Decision, *, progress_due: bool) -> Applied:
    """Carry out a decision. Raises ApiError 409 when the resource changed meanwhile: read again and decide anew."""
    job = seen.job
    if decision.action is Action.LAUNCH:
        decision, job = await _launch(client, cache, seen, decision)
    if decision.action is Action.ERRAND:
        decision = await _send(client, cache, seen, decision)
    if decision.action in (Action.HOLD, Action.RELEASE):
        await _set_finalizer(client, cache, seen, hold=decision.action is Action.HOLD)
        return Applied(decision, False, seen.status)
    composed = status.compose(seen, decision, job, progress_due=progress_due)
    patched = await _patch(client, cache, seen, status.dump(composed))
    # After the patch: what the Job used up is then known for good, and a stale look at the resource stops nothing.
    if decision.action is Action.STOP and decision.job is not None:
        await stop_job(client, cache, decision.job)
    return Applied(decision, patched, composed)


async def _launch(client: Client, cache: Cache, seen: Observed, decision: Decision) -> tuple[Decision, JobFact | None]:
    fact, spec, grant = seen.fact, seen.spec, seen.grant
    if spec is None or not isinstance(grant, Grant):
        raise TypeError("a launch needs a spec and a grant")
    manifest = build_job(fact, spec, seen.spec_hash, seen.run_id, seen.attempt + 1, grant, seen.spent)
    cache.reserved.add(fact.key)
    try:
        job = job_fact(await client.post(paths.jobs(fact.namespace), manifest))
        cache.put_job(job)
        return decision, job
    except ApiError as error:
        if error.status == 409:
            return await _namesake(client, cache, seen, decision, manifest["metadata"]["name"])
        if error.status in (400, 403, 422):
            return _refused(decision, error), None
        raise
    finally:
        cache.reserved.discard(fact.key)


async def _namesake(
    client: Client, cache: Cache, seen: Observed, decision: Decision, name: str
) -> tuple[Decision, JobFact | None]:
    """There is a Job of our name: our own, which the watch has not told of, one that is ending, or a stranger's."""
    try:
        job = job_fact(await client.get(paths.job(seen.fact.namespace, name)))
    except ApiError as error:
        if error.status == 404:
            return Decision(Action.WAIT, Reason.STOPPING, f"Job {name} has just gone", 1.0), None
        raise
    if job.owner_uid == seen.fact.uid:
        cache.put_job(job)
        if job.deleting or job.run_id != seen.run_id:
            return Decision(Action.WAIT, Reason.STOPPING, f"Job {name} is being deleted", 2.0), None
        return replace(decision, again_after=0.0), job
    if job.deleting:
        return Decision(Action.WAIT, Reason.STOPPING, f"another's Job {name} is being deleted", 2.0), None
    message = f"Job {name} exists and does not belong to this resource: delete it, or rename this resource"
    cache.conflicts[seen.fact.key] = message, seen.now + CONFLICT_SECONDS
    return Decision(Action.SETTLE, Reason.NAME_CONFLICT, message, CONFLICT_SECONDS), None


def _refused(decision: Decision, error: ApiError) -> Decision:
    """The API server does not take the Job: a quota, an admission policy, a namespace that ends."""
    return Decision(Action.WAIT, Reason.POD_REFUSED, f"the Job is refused: {error.message}", REFUSED_SECONDS)


async def _send(client: Client, cache: Cache, seen: Observed, decision: Decision) -> Decision:
    """Create an errand's Job; the decision as carried out. A check that cannot be made has failed."""
    try:
        job = job_fact(await client.post(paths.jobs(seen.fact.namespace), _errand(seen, decision)))
    except ApiError as error:
        if error.status == 409 and await _sent(client, cache, seen, decision):
            return replace(decision, action=Action.WAIT, again_after=ERRAND_SECONDS)
        if error.status not in (400, 403, 409, 422):
            raise
        if decision.errand is ErrandKind.CLEAN_UP:
            return farewell.ending_namespace(seen) if error.in_ending_namespace else farewell.refused(error.message)
        problem = f"the check's Job is refused: {error.message}"
        return replace(decision, action=Action.WAIT, checked=Checked(seen.now, problem=problem), again_after=0.0)
    cache.put_job(job)
    return decision


async def _sent(client: Client, cache: Cache, seen: Observed, decision: Decision) -> bool:
    """Whether the Job of that name is this very errand, or has just gone: then all is well."""
    fact, kind = seen.fact, decision.errand or ErrandKind.DRIFT
    try:
        job = job_fact(await client.get(paths.job(fact.namespace, errand_name(fact, kind, decision.attempt))))
    except ApiError as error:
        if error.status != 404:
            raise
        return True
    if job.errand != kind or job.owner_uid != fact.uid:
        return False
    cache.put_job(job)
    return True


def _errand(seen: Observed, decision: Decision) -> dict[str, Any]:
    fact, spec, grant = seen.fact, seen.spec, seen.grant
    if spec is None or not isinstance(grant, Grant):
        raise TypeError("an errand needs a spec and a grant")
    if decision.errand is ErrandKind.CLEAN_UP:
        return build_errand(fact, spec, grant, clean_up_request(fact, spec, grant), decision.attempt)
    if (published := artifact(seen)) is None:
        raise TypeError("a drift check needs something published")
    return build_errand(fact, spec, grant, drift_request(fact, spec, grant, seen.run_id, published))


async def _set_finalizer(client: Client, cache: Cache, seen: Observed, *, hold: bool) -> None:
    """Have the resource wait for us when it goes, or wait no more. Nothing else of it is written, and by its version
    no newer list of finalizers is overwritten."""
    fact = seen.fact
    others = [name for name in fact.finalizers if name != paths.FINALIZER]
    wanted = [*others, paths.FINALIZER] if hold else others
    body = {"metadata": {"resourceVersion": str(fact.version), "finalizers": wanted}}
    try:
        answer = await client.merge(paths.resource(fact.namespace, fact.name), body)
    except ApiError as error:
        if error.status != 404:
            raise
        return
    if hold:  # one that was let go may be gone: the watch has told, or will
        cache.put_resource(resource_fact(answer))


async def stop_job(client: Client, cache: Cache, job: JobFact) -> None:
    """Delete this very Job, and its pods with it: a bare DELETE would leave the pod running."""
    options = {"propagationPolicy": "Background", "preconditions": {"uid": job.uid}}
    try:
        await client.delete(paths.job(job.namespace, job.name), options)
    except ApiError as error:
        if error.status not in (404, 409):
            raise
        cache.drop_job(job.uid)
        return
    if (known := cache.jobs.get(job.uid)) is not None:
        cache.put_job(replace(known, deleting=True))


async def _patch(client: Client, cache: Cache, seen: Observed, wanted: dict[str, Any]) -> bool:
    """Write what changed. The resource's version goes along: newer status is never overwritten by older."""
    before = status.known(seen.fact.status)
    patch = status.merge_patch(before, wanted)
    if not patch:
        return False
    fact = seen.fact
    body = {"metadata": {"resourceVersion": str(fact.version)}, "status": patch}
    try:
        answer = await client.merge(paths.status(fact.namespace, fact.name), body)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    cache.put_resource(resource_fact(answer))
    return True
