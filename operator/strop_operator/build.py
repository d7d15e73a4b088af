"""Turns a spec and a grant into the Job that carries out one attempt of a run. Pure."""

from typing import Any

from strop_api import API_VERSION
from strop_api.errands import SIGNING_PATH
from strop_api.failures import OOM_EXIT_CODE, TABLE, Failure, PolicyAction
from strop_api.grants import Grant, claims, resources
from strop_api.identity import HASH_VERSION, job_name
from strop_api.optimization import KIND, ModelOptimizationSpec
from strop_api.policy import OptimizationPolicySpec
from strop_api.result import (
    CREDENTIALS_PATH,
    HEALTH_PATH,
    PROGRESS_PORT,
    REQUEST_ANNOTATION,
    REQUEST_PATH,
    SCRATCH_PATH,
    TERMINATION_LOG,
    RunRequest,
)
from strop_api.support import NODE_FEATURES
from strop_api.targets import Target
from strop_api.worker import Toleration
from strop_operator import paths
from strop_operator.facts import ResourceFact
from strop_operator.observe import NOTHING_SPENT, Spent

Node = dict[str, Any]
Mounted = tuple[Node, Node]
"""A volume, and where it is mounted."""
GRACE_SECONDS = 60
LEAST_SECONDS = 60
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
SPEC_HASH_ANNOTATION = "strop.dev/spec-hash"
HASH_VERSION_ANNOTATION = "strop.dev/hash-version"
CLAIMS_PATH = "/pvc"
TEMPORARY = "256Mi"
LOCKED: Node = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Security context of a container."""


def build_job(
    fact: ResourceFact,
    spec: ModelOptimizationSpec,
    spec_hash: str,
    run_id: str,
    attempt: int,
    grant: Grant,
    spent: Spent = NOTHING_SPENT,
) -> Node:
    """The Job for the first target. Its name is a function of the resource and the run; it has what is left of the
    run's retries and deadline."""
    target, labels = spec.targets[0], _labels(fact, spec, run_id)
    queue = {QUEUE_LABEL: spec.worker.queue_name} if spec.worker.queue_name is not None else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(fact.name, fact.uid, run_id),
            "namespace": fact.namespace,
            "labels": labels | queue,
            "annotations": {
                SPEC_HASH_ANNOTATION: spec_hash,
                HASH_VERSION_ANNOTATION: str(HASH_VERSION),
                paths.RERUN_OF_ANNOTATION: fact.rerun,
                paths.ATTEMPT_ANNOTATION: str(attempt),
                paths.FAILURES_ANNOTATION: str(spent.failures),
                paths.LOST_ANNOTATION: str(spent.lost),
                paths.SPENT_ANNOTATION: str(spent.seconds),
                paths.IMAGE_ANNOTATION: grant.image.ref,
            },
            "ownerReferences": [owner(fact)],
        },
        "spec": {
            "backoffLimit": max(spec.retries - spent.failures, 0),
            "activeDeadlineSeconds": left_seconds(spec, spent),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": failure_rules()},
            **({"suspend": True} if queue else {}),
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {REQUEST_ANNOTATION: _request(fact, spec, run_id, target, grant)},
                },
                "spec": _pod(spec, target, grant),
            },
        },
    }


def left_seconds(spec: ModelOptimizationSpec, spent: Spent) -> int:
    """What is left of the deadline, but enough to start a pod that answers from its records."""
    deadline = spec.active_deadline_seconds
    return min(deadline, max(deadline - spent.seconds, LEAST_SECONDS))


def failure_rules() -> list[Node]:
    """The podFailurePolicy, from the failure table; what is not listed counts against the retries."""
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": row.pod_condition, "status": "True"}]}
        for row in TABLE
        if row.pod_condition is not None
    ]
    return rules + [
        {"action": str(action), "onExitCodes": {"containerName": paths.CONTAINER, "operator": "In", "values": codes}}
        for action in (PolicyAction.IGNORE, PolicyAction.FAIL_JOB)
        if (codes := sorted(code for row in TABLE if row.action is action for code in _exit_codes(row)))
    ]


def _exit_codes(row: Failure) -> list[int]:
    if row.exit_code is not None:
        return [int(row.exit_code)]
    return [OOM_EXIT_CODE] if row.terminated_reason == "OOMKilled" else []


def owner(fact: ResourceFact) -> Node:
    """The resource as the one that controls a Job."""
    # blockOwnerDeletion: a foreground deletion of the resource waits for the Job and its pod.
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": fact.name,
        "uid": fact.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _labels(fact: ResourceFact, spec: ModelOptimizationSpec, run_id: str) -> Node:
    return {
        **spec.worker.labels,
        paths.MANAGED_BY: paths.MANAGER,
        paths.NAME_LABEL: fact.name[:63].rstrip("-."),
        paths.UID_LABEL: fact.uid,
        paths.RUN_LABEL: run_id,
        paths.TARGET_LABEL: spec.targets[0].name,
    }


def _request(fact: ResourceFact, spec: ModelOptimizationSpec, run_id: str, target: Target, grant: Grant) -> str:
    """What the worker is told. Defaults stay out, so that a worker of another release reads it."""
    return RunRequest(
        namespace=fact.namespace,
        name=fact.name,
        uid=fact.uid,
        run_id=run_id,
        target=target.name,
        spec=spec,
        image=grant.image.ref,
        store=grant.store.access(fact.namespace),
        allow_code=grant.policy.allow_code,
    ).model_dump_json(by_alias=True, exclude_defaults=True)


def _pod(spec: ModelOptimizationSpec, target: Target, grant: Grant) -> Node:
    worker = spec.worker
    optional = {
        "serviceAccountName": worker.service_account_name,
        "priorityClassName": worker.priority_class_name,
        "runtimeClassName": worker.runtime_class_name,
        "nodeSelector": dict(worker.node_selector) | target.node_labels,
        "affinity": _affinity(target),
        "tolerations": [toleration(t) for t in worker.tolerations],
        "imagePullSecrets": [{"name": name} for name in grant.image.pull_secrets],
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": secured(grant.policy.worker.run_as_user),
        **{name: value for name, value in optional.items() if value},
        "containers": [_container(spec, target, grant)],
        "volumes": [volume for volume, _ in _volumes(spec, grant)],
    }


def secured(user: int) -> Node:
    """Security context of a pod, as the restricted standard wants it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container(spec: ModelOptimizationSpec, target: Target, grant: Grant) -> Node:
    return {
        "name": paths.CONTAINER,
        "image": grant.image.ref,
        "imagePullPolicy": str(grant.image.pull_policy),
        "command": ["strop", "worker"],
        "env": environment(spec, grant.policy),
        "resources": _resources(spec, target, grant.policy),
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT}],
        "livenessProbe": {
            "httpGet": {"path": HEALTH_PATH, "port": PROGRESS_PORT},
            "initialDelaySeconds": 30,
            "periodSeconds": 20,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "securityContext": LOCKED,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": [mount for _, mount in _volumes(spec, grant)],
    }


def _volumes(spec: ModelOptimizationSpec, grant: Grant) -> list[Mounted]:
    """A run's volumes."""
    found = volumes(spec, grant)
    if spec.worker.shared_memory is not None:
        memory = {"medium": "Memory", "sizeLimit": spec.worker.shared_memory}
        found.append(({"name": "shm", "emptyDir": memory}, _mount("shm", "/dev/shm", False)))  # noqa: S108 - a mount
    if (signing := grant.policy.signing) is not None:
        secret = {"secretName": signing.secret_name, "defaultMode": 0o440, "optional": False}
        found.append(({"name": "signing", "secret": secret}, _mount("signing", SIGNING_PATH)))
    return found + claimed(spec)


def volumes(spec: ModelOptimizationSpec, grant: Grant) -> list[Mounted]:
    """What every worker needs."""
    request = {"path": REQUEST_PATH.rpartition("/")[2], "fieldRef": {"fieldPath": annotation(REQUEST_ANNOTATION)}}
    secret = {"secretName": grant.store.credentials_secret_name, "defaultMode": 0o440}
    return [
        ({"name": "request", "downwardAPI": {"items": [request]}}, _mount("request", REQUEST_PATH.rpartition("/")[0])),
        ({"name": "credentials", "secret": secret}, _mount("credentials", CREDENTIALS_PATH)),
        ({"name": "scratch", "emptyDir": {"sizeLimit": spec.worker.scratch}}, _mount("scratch", SCRATCH_PATH, False)),
        ({"name": "tmp", "emptyDir": {"sizeLimit": TEMPORARY}}, _mount("tmp", "/tmp", False)),  # noqa: S108 - a mount
    ]


def claimed(spec: ModelOptimizationSpec) -> list[Mounted]:
    """The claims that hold inputs."""
    return [
        (
            {"name": f"claim-{index}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
            _mount(f"claim-{index}", f"{CLAIMS_PATH}/{claim}"),
        )
        for index, claim in enumerate(claims(spec))
    ]


def annotation(name: str) -> str:
    """The downwardAPI's path of an annotation."""
    return f"metadata.annotations['{name}']"


def _mount(name: str, path: str, read_only: bool = True) -> Node:
    return {"name": name, "mountPath": path} | ({"readOnly": True} if read_only else {})


def literal(value: str) -> str:
    """A value that the kubelet leaves as it is: `$$` stands for one dollar, so `$(NAME)` is not expanded."""
    return value.replace("$", "$$")


def environment(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec) -> list[Node]:
    """The user's variables, and over them ours: whatever a policy allows, these stay as they are."""
    values = {variable.name: variable.value for variable in spec.worker.env}
    values |= {"HOME": "/tmp"}  # noqa: S108 - the pod's own
    if policy.proxy is not None:
        values |= {"HTTPS_PROXY": policy.proxy.https, "NO_PROXY": policy.proxy.no_proxy}
    return [{"name": name, "value": literal(value)} for name, value in values.items()]


def _resources(spec: ModelOptimizationSpec, target: Target, policy: OptimizationPolicySpec) -> Node:
    joined = resources(spec, policy)
    if target.accelerator is not None:
        joined["limits"][target.accelerator.resource] = str(target.accelerator.count)
    return {name: amounts for name, amounts in joined.items() if amounts}


def _affinity(target: Target) -> Node:
    """Nodes that are labelled with the instruction set come first. Not a requirement: where Node Feature Discovery
    does not run no node has the label; the worker itself refuses a node without the set."""
    label = NODE_FEATURES.get(target.cpu.isa or "") if target.cpu is not None else None
    if label is None:
        return {}
    preference = {"matchExpressions": [{"key": label, "operator": "In", "values": ["true"]}]}
    terms = [{"weight": 100, "preference": preference}]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}


def toleration(asked: Toleration) -> Node:
    """As a pod has it."""
    return asked.model_dump(mode="json", by_alias=True, exclude_none=True)
