"""`OptimizationPolicy`: what admins allow. One named `default` per namespace; else the operator's own namespace's."""

from typing import Annotated

from pydantic import Field

from strop_api.base import ApiModel, Callable, FolderUri, ImageRef, LabelKey, ListMap, ListSet, Name, Text
from strop_api.result import StoreAccess
from strop_api.steps import StepType
from strop_api.targets import Runtime
from strop_api.worker import ImagePull, Resources, VariableName

POLICY_KIND = "OptimizationPolicy"
POLICY_PLURAL = "optimizationpolicies"
POLICY_NAME = "default"

Url = Annotated[str, Text(512, r"^https?://[^\s/]+(/[^\s]*)?$")]


ResourcePattern = Annotated[str, Text(253, r"^[a-z0-9.-]+/([A-Za-z0-9._-]+\*?|\*)$")]
"""An extended resource, or with a `*` at the end all that begin so."""


class Store(ApiModel):
    """An S3-compatible object store."""

    name: Name
    """Name used in `spec.storeRef.name`."""
    endpoint: Url
    """Address of the S3 API, such as `https://minio.storage.svc:9000`."""
    region: Annotated[str, Text(64)] = "us-east-1"
    """Region used in signatures."""
    ca_bundle: Annotated[str, Text(65_536)] | None = None
    """PEM certificates that sign the endpoint's."""
    path_style: bool = True
    """Address buckets by path (MinIO) rather than by host name."""
    credentials_secret_name: Name
    """Secret in the run's namespace with `accessKey`, `secretKey` and perhaps `sessionToken`. The kubelet mounts it;
    the operator never reads it."""
    output_prefixes: Annotated[list[FolderUri], ListSet(16, min_length=1)]
    """Where `spec.output.uri` may lie. `{namespace}` stands for the resource's namespace."""
    input_prefixes: Annotated[list[FolderUri], ListSet(16)] = []
    """Where models and data in this store may lie, with `{namespace}` as above. None: wherever the credentials can
    read. The records are never an input."""
    records_uri: FolderUri = "s3://strop-records"
    """Where blobs and records are kept; each namespace has its own prefix below it."""

    def access(self, namespace: str) -> StoreAccess:
        """What a worker in this namespace is told of the store: all but its credentials."""
        return StoreAccess(
            endpoint=self.endpoint,
            region=self.region,
            ca_bundle=self.ca_bundle,
            path_style=self.path_style,
            records_uri=f"{self.records_uri.rstrip('/')}/{namespace}",
        )


class WorkerImage(ApiModel):
    """One worker image of the catalogue: what it can do is written down, not guessed."""

    name: Name
    """Name used in `spec.worker.image`."""
    ref: ImageRef
    """The image, by digest."""
    pull_policy: ImagePull = ImagePull.IF_NOT_PRESENT
    """As in a pod."""
    pull_secrets: Annotated[list[Name], ListSet(8)] = []
    """Secrets for pulling."""
    runtimes: Annotated[list[Runtime], ListSet(8, min_length=1)]
    """Runtimes in this image."""
    step_types: Annotated[list[StepType], ListSet(8)] = []
    """Steps this image can do."""
    architectures: Annotated[list[Callable], ListSet(64)] = []
    """Architecture, metric and loss callables in this image."""
    gpu: bool = False
    """Whether its runtimes use an accelerator. A target with one gets no other image."""


class Allowlists(ApiModel):
    """What resources may ask for. An empty list: nothing of that kind."""

    service_accounts: Annotated[list[Name], ListSet(32)] = []
    """Values of `worker.serviceAccountName`."""
    queues: Annotated[list[Name], ListSet(32)] = []
    """Values of `worker.queueName`."""
    priority_classes: Annotated[list[Name], ListSet(32)] = []
    """Values of `worker.priorityClassName`."""
    toleration_keys: Annotated[list[LabelKey], ListSet(32)] = []
    """Keys of `worker.tolerations`."""
    runtime_classes: Annotated[list[Name], ListSet(32)] = []
    """Values of `worker.runtimeClassName`."""
    persistent_volume_claims: Annotated[list[Name], ListSet(32)] = []
    """Claims that `pvc://` may name."""
    environment: Annotated[list[VariableName], ListSet(64)] = []
    """Names of `worker.env` beside the harmless ones. Many a variable loads code (`LD_PRELOAD`, `PYTHONPATH`) or
    redirects traffic: allow it only where `allowCode` would be in order."""
    accelerator_resources: Annotated[list[ResourcePattern], ListSet(32)] = ["nvidia.com/gpu"]
    """Values of `targets[].accelerator.resource`; a `*` at the end stands for any ending: `nvidia.com/mig-*`."""


class Limits(ApiModel):
    """Bounds per resource and per namespace."""

    accelerators: Annotated[int, Field(ge=0, le=10_000)] = 16
    """Most accelerators of one resource."""
    concurrent_runs: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Most runs at once in the namespace; others wait with reason Queued."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=2_592_000)] = 2_592_000
    """Longest `activeDeadlineSeconds`."""


class WorkerDefaults(ApiModel):
    """Used where a resource says nothing."""

    resources: Resources = Resources()
    """CPU and memory."""
    run_as_user: Annotated[int, Field(ge=1, le=2**31 - 1)] = 65_532
    """User and group of the worker's process."""


class Proxy(ApiModel):
    """Proxy for hubs outside the cluster; never used for the store."""

    https: Url
    """HTTPS_PROXY of the worker."""
    no_proxy: Annotated[str, Text(1024)] = ".svc,.cluster.local"
    """NO_PROXY of the worker."""


class Signing(ApiModel):
    """The key that signs what is published."""

    secret_name: Name
    """Secret in the run's namespace with `cosign.key` (PEM, or encrypted as `cosign generate-key-pair` writes it) and
    perhaps `cosign.password`. The kubelet mounts it; the operator never reads it."""


class DriftChecks(ApiModel):
    """Whether what was published is still what would be made today."""

    every_seconds: Annotated[int, Field(ge=60, le=31_536_000)] = 86_400
    """Time between two checks of one resource. Each is a small worker Job, that needs no accelerator."""


class OptimizationPolicySpec(ApiModel):
    """What admins allow in a namespace."""

    stores: Annotated[list[Store], ListMap(16, min_length=1)]
    """Object stores."""
    images: Annotated[list[WorkerImage], ListMap(32, min_length=1)]
    """Catalogue of worker images. A run gets the first that has its runtime, step types and callables."""
    allow_code: bool = False
    """Allow `.pt2` models and source by uri: both are code that the worker runs."""
    allow: Allowlists = Allowlists()
    """What resources may ask for beside their own; an empty list allows nothing of its kind."""
    limits: Limits = Limits()
    """Bounds."""
    worker: WorkerDefaults = WorkerDefaults()
    """Used where a resource says nothing."""
    proxy: Proxy | None = None
    """Proxy for hubs outside the cluster; never used for the store."""
    signing: Signing | None = None
    """Sign the provenance of what is published. None: it lies there unsigned, and says so."""
    drift_checks: DriftChecks | None = None
    """Look now and then whether the source or the runtime of what was published has moved on. None: never. A changed
    worker image is seen without a look."""
