"""How the worker's pod runs: Kubernetes' own names where Kubernetes has the field."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from strop_api.base import ApiModel, LabelKey, LabelMap, ListMap, Name, Quantity, Text

VariableName = Annotated[str, Text(128, r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


class ResourceAmounts(ApiModel):
    """CPU and memory. Extended resources come from the target's accelerator."""

    cpu: Quantity | None = None
    """Cores."""
    memory: Quantity | None = None
    """Bytes."""
    ephemeral_storage: Quantity | None = Field(default=None, alias="ephemeral-storage")
    """Bytes on the node's disk."""


class Resources(ApiModel):
    """Requests and limits of the worker's container."""

    requests: ResourceAmounts = ResourceAmounts()
    """What the scheduler reserves."""
    limits: ResourceAmounts = ResourceAmounts()
    """What the container may use; the CPU limit fixes the threads of a benchmark."""


class Toleration(ApiModel):
    """As in a pod."""

    key: LabelKey | None = None
    """Taint key; empty with `Exists` tolerates everything."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How `value` is compared."""
    value: Annotated[str, Text(63, min_length=0)] | None = None
    """Taint value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; empty matches all."""
    toleration_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long a NoExecute taint is tolerated."""


HARMLESS_ENVIRONMENT = (
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "KMP_AFFINITY", "KMP_BLOCKTIME", "LANG", "MALLOC_ARENA_MAX",
    "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "OMP_PLACES", "OMP_PROC_BIND", "OMP_WAIT_POLICY",
    "TOKENIZERS_PARALLELISM", "TZ",
)  # fmt: skip
"""Variables that any resource may set. Names, not prefixes: many a variable loads code (`CUDA_INJECTION64_PATH`)."""


class EnvVar(ApiModel):
    """A plain variable. References to Secrets are not offered."""

    name: VariableName
    """Name."""
    value: Annotated[str, Text(4096, min_length=0)] = ""
    """Value, taken literally: `$(NAME)` is not expanded."""


class WorkerSettings(ApiModel):
    """How the worker's pod runs."""

    image: Name | None = None
    """Name of an image of the policy's catalogue. By default the first that serves the run."""
    resources: Resources = Resources()
    """CPU and memory."""
    node_selector: LabelMap = {}
    """Labels the node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Taints the pod tolerates; the policy must allow their keys."""
    priority_class_name: Name | None = None
    """Priority class; the policy must allow it."""
    runtime_class_name: Name | None = None
    """Runtime class; the policy must allow it."""
    service_account_name: Name | None = None
    """Service account; the policy must allow it. Its token is never mounted."""
    queue_name: Name | None = None
    """Kueue's LocalQueue: sets `kueue.x-k8s.io/queue-name` on the Job."""
    scratch: Quantity = "20Gi"
    """Size limit of the scratch volume."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm."""
    env: Annotated[list[EnvVar], ListMap(32)] = []
    """Plain variables of the worker: a few harmless ones (`OMP_NUM_THREADS`), and those of the policy's
    `allow.environment`; names starting with STROP_ are refused. They never replace the operator's own."""
    labels: LabelMap = {}
    """Labels of the Job and its pod."""


class ImagePull(StrEnum):
    """As in a pod."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"
