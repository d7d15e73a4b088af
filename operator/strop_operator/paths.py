"""Paths of the API that the operator reads and writes, and the labels by which it finds its own."""

from strop_api import GROUP, VERSION
from strop_api.optimization import PLURAL
from strop_api.policy import POLICY_NAME, POLICY_PLURAL

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "strop"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
UID_LABEL = "strop.dev/optimization-uid"
NAME_LABEL = "strop.dev/optimization"
RUN_LABEL = "strop.dev/run"
TARGET_LABEL = "strop.dev/target"
ATTEMPT_ANNOTATION = "strop.dev/attempt"
FAILURES_ANNOTATION = "strop.dev/failures"
LOST_ANNOTATION = "strop.dev/lost"
SPENT_ANNOTATION = "strop.dev/spent-seconds"
IMAGE_ANNOTATION = "strop.dev/image"
RERUN_OF_ANNOTATION = "strop.dev/rerun"
ERRAND_LABEL = "strop.dev/errand"
"""On errands' Jobs and pods, with the errand's kind: they are no part of any run."""
ERRAND_RUN_ANNOTATION = "strop.dev/errand-run"
"""The run that an errand's Job looks after."""
FINALIZER = "strop.dev/artifacts"
"""On resources whose artifacts go with them."""
ABANDON_ANNOTATION = "strop.dev/abandon-artifacts"
"""`true` lets a deleted resource go without its artifacts."""
CONTAINER = "worker"


def resource(namespace: str, name: str) -> str:
    """A ModelOptimization."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"


def status(namespace: str, name: str) -> str:
    """A ModelOptimization's status."""
    return resource(namespace, name) + "/status"


def policy(namespace: str) -> str:
    """The namespace's policy."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{POLICY_PLURAL}/{POLICY_NAME}"


def jobs(namespace: str) -> str:
    """The namespace's Jobs."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def job(namespace: str, name: str) -> str:
    """A Job."""
    return f"{jobs(namespace)}/{name}"


def pods(namespace: str) -> str:
    """The namespace's pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def events(namespace: str) -> str:
    """The namespace's Events."""
    return f"/api/v1/namespaces/{namespace}/events"


def leases(namespace: str) -> str:
    """The namespace's Leases."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
