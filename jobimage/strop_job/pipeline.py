"""One run from its plan to its end: the stages are walked, and whatever happens becomes a `Finished`.

Records are the only memory. Once the walk has begun the run ends in a `Finished`, never in an exception. What stands at
the end of a run whose stages are done is `conclude`; what it leaves behind is written by `reporting`.
"""

import logging
import shutil
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

from strop_api.result import Outcome
from strop_job.claims import take_over
from strop_job.conclude import Finished, conclude, owner
from strop_job.errors import InvalidInput
from strop_job.hardware import require
from strop_job.judged import judge, misses_calibration
from strop_job.outcome import StageRow, diagnose, make_result, redact
from strop_job.plan import AUDIT_CALIBRATION, Plan
from strop_job.progress import TAIL, TAIL_WEIGHT
from strop_job.publish import point_back
from strop_job.reporting import claim_uri, findings_of, kept_result, write_if_possible
from strop_job.store.objects import disk_full_is_named
from strop_job.walk import Shop, Walk

log = logging.getLogger(__name__)


def run(plan: Plan, shop: Shop) -> Finished:
    """Carries the plan out; what goes wrong becomes the outcome. Raises only when scratch cannot be written at all."""
    began = time.monotonic()
    folder = _folder_in(shop.scratch, plan.request.run_id)
    walk = Walk(plan, shop, folder)
    try:
        finished = _walk(walk)
    except BaseException as error:
        finished = _ended_early(walk, error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return replace(finished, seconds=time.monotonic() - began)


def _folder_in(scratch: Path, run_id: str) -> Path:
    try:
        with disk_full_is_named(scratch):
            scratch.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"run-{run_id}-", dir=scratch))
    except OSError as error:
        raise InvalidInput(f"{scratch} cannot be written: {error.strerror}", mend="give a folder that can") from error


def _walk(walk: Walk) -> Finished:
    if walk.shop.answer_published and (earlier := _published_before(walk)) is not None:
        return earlier
    if not (walk.shop.answer_published and take_over(walk, claim_uri(walk))):
        require(walk.plan.target, walk.plan.target_index, walk.shop.hardware)
        _step_by_step(walk)
    judged = judge(walk)
    walk.tracker.begin(TAIL, TAIL_WEIGHT)
    finished = conclude(walk, judged)
    walk.tracker.finish()
    return finished


def _step_by_step(walk: Walk) -> None:
    """Every stage of the plan, unless a gate is missed before the engine exists."""
    for stage in walk.plan.stages:
        walk.step(stage)
        if stage.name == AUDIT_CALIBRATION and misses_calibration(walk):
            return


def _published_before(walk: Walk) -> Finished | None:
    """The result of this very run, if it was published and is still there; the pointer then leads to it again."""
    result = kept_result(walk)
    artifact = result.target.artifact if result is not None and result.target else None
    if result is None or result.outcome is not Outcome.PUBLISHED or artifact is None:
        return None
    request = walk.plan.request
    if not point_back(walk.shop.store, request.spec.output.uri, request.run_id, owner(request), artifact):
        return None
    stages = [stage.model_copy(update={"cached": True}) for stage in result.stages]
    rows = tuple(StageRow(stage.name, float(stage.seconds), True, "") for stage in stages)
    return Finished(result.model_copy(update={"stages": stages}), rows)


def _ended_early(walk: Walk, error: BaseException) -> Finished:
    """What happened, in words without secrets; the trace goes to the log of the worker alone."""
    trouble = diagnose(error, walk.current, walk.shop.secrets)
    if trouble.outcome is Outcome.FAILED:
        log.error("%s", redact("".join(traceback.format_exception(error)), walk.shop.secrets))
    message = trouble.message + (f" ({trouble.mend})" if trouble.mend else "")
    uris = write_if_possible(walk, trouble.outcome, message)
    model = walk.done.get(walk.plan.model)
    result = make_result(
        walk.plan.request,
        trouble.outcome,
        message=message,
        field=trouble.field,
        rows=walk.rows,
        findings=findings_of(walk),
        report=uris[0] if uris else None,
        model_digest=model.record.digest if model else None,
    )
    return Finished(result, walk.rows, None, uris)
