"""Builds the small Jobs beside runs, and reads what they answer. Pure."""

from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from strop_api.errands import ErrandKind, ErrandRequest, ErrandResult
from strop_api.grants import Grant
from strop_api.identity import job_name
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import REQUEST_ANNOTATION, TERMINATION_LOG
from strop_api.status import ArtifactRef
from strop_operator import paths
from strop_operator.build import LOCKED, claimed, environment, owner, secured, toleration, volumes
from strop_operator.facts import JobFact, PodFact, ResourceFact
from strop_operator.pods import candidates

Node = dict[str, Any]
AMOUNTS: Node = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
RETRIES = 2
"""Kubernetes' own, each in a new pod; when they are used up, it is on us to wait."""
DEADLINE_SECONDS = {ErrandKind.DRIFT: 1800, ErrandKind.CLEAN_UP: 3600}
KEPT_SECONDS = {ErrandKind.DRIFT: 3600, ErrandKind.CLEAN_UP: 7200}
"""Kubernetes removes an ended Job after this. Nobody else removes a clean-up's: its log is read, and how often it was
tried is counted by it."""


def build_errand(
    fact: ResourceFact, spec: ModelOptimizationSpec, grant: Grant, request: ErrandRequest, attempt: int = 1
) -> Node:
    """The Job of an errand. A drift check goes with its resource and there is one at a time; a clean-up has no owner,
    for it outlives the resource."""
    kind = request.errand
    labels = {
        paths.MANAGED_BY: paths.MANAGER,
        paths.NAME_LABEL: fact.name[:63].rstrip("-."),
        paths.UID_LABEL: fact.uid,
        paths.ERRAND_LABEL: str(kind),
    }
    notes = {paths.ERRAND_RUN_ANNOTATION: request.run_id or "", paths.ATTEMPT_ANNOTATION: str(attempt)}
    metadata = {"name": errand_name(fact, kind, attempt), "namespace": fact.namespace, "labels": labels}
    owners = {"ownerReferences": [owner(fact)]} if kind is ErrandKind.DRIFT else {}
    told = request.model_dump_json(by_alias=True, exclude_defaults=True)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "annotations": notes, **owners},
        "spec": {
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": DEADLINE_SECONDS[kind],
            "ttlSecondsAfterFinished": KEPT_SECONDS[kind],
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": labels, "annotations": {REQUEST_ANNOTATION: told}},
                "spec": _pod(spec, grant, kind),
            },
        },
    }


def errand_name(fact: ResourceFact, kind: ErrandKind, attempt: int) -> str:
    """One name for all drift checks of a resource, so that there are never two; one for each clean-up's attempt."""
    return job_name(fact.name, fact.uid, "drift" if kind is ErrandKind.DRIFT else f"clean-up-{attempt}")


def drift_request(
    fact: ResourceFact, spec: ModelOptimizationSpec, grant: Grant, run_id: str, artifact: ArtifactRef
) -> ErrandRequest:
    """What is asked about something published."""
    return ErrandRequest(
        errand=ErrandKind.DRIFT,
        namespace=fact.namespace,
        name=fact.name,
        uid=fact.uid,
        store=grant.store.access(fact.namespace),
        output_uri=spec.output.uri,
        spec=spec,
        run_id=run_id,
        artifact=artifact,
    )


def clean_up_request(fact: ResourceFact, spec: ModelOptimizationSpec, grant: Grant) -> ErrandRequest:
    """What is asked when a resource goes; by its UID the worker knows what is its own."""
    return ErrandRequest(
        errand=ErrandKind.CLEAN_UP,
        namespace=fact.namespace,
        name=fact.name,
        uid=fact.uid,
        store=grant.store.access(fact.namespace),
        output_uri=spec.output.uri,
    )


def _pod(spec: ModelOptimizationSpec, grant: Grant, kind: ErrandKind) -> Node:
    """On a processor, wherever there is room: the run's nodes may be dear, and started for nobody else."""
    found = volumes(spec, grant) + (claimed(spec) if kind is ErrandKind.DRIFT else [])
    arch = spec.targets[0].cpu.arch if spec.targets[0].cpu is not None else None
    optional = {
        "nodeSelector": {"kubernetes.io/arch": arch} if arch is not None else {},
        "tolerations": [toleration(t) for t in spec.worker.tolerations],
        "imagePullSecrets": [{"name": name} for name in grant.newest.pull_secrets],
    }
    container = {
        "name": paths.CONTAINER,
        "image": grant.newest.ref,
        "imagePullPolicy": str(grant.newest.pull_policy),
        "command": ["strop", "errand"],
        "env": environment(spec, grant.policy),
        "resources": AMOUNTS,
        "securityContext": LOCKED,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": [mount for _, mount in found],
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 30,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": secured(grant.policy.worker.run_as_user),
        **{name: value for name, value in optional.items() if value},
        "containers": [container],
        "volumes": [volume for volume, _ in found],
    }


def answer(job: JobFact, pods: tuple[PodFact, ...]) -> ErrandResult | None:
    """What the newest pod of an ended errand said; None when that was lost, is malformed, or of another errand."""
    pod = next((p for p in reversed(pods) if p.job_uid == job.uid and not p.live), None)
    for text in candidates(pod.termination) if pod is not None else ():
        with suppress(ValidationError, ValueError):
            result = ErrandResult.model_validate_json(text)
            return result if result.errand == job.errand else None
    return None


def failing(job: JobFact, result: ErrandResult | None) -> str:
    """Why an errand came to nothing; empty when it did what it was sent for."""
    if job.ended == "Complete" and result is not None and result.done:
        return ""
    if result is not None and result.message:
        return result.message
    if job.ended == "Complete":
        return f"Job {job.name} completed, but its answer was not seen"
    return f"Job {job.name} failed: {job.end_message or job.end_reason or 'no reason given'}"
