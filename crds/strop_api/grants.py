"""What the namespace's policy grants a resource: its store and its image, or a refusal that names the field."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from strop_api.base import quantity
from strop_api.data import DataSource
from strop_api.model import ModelFormat
from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import Allowlists, OptimizationPolicySpec, Store, WorkerImage
from strop_api.reasons import Reason
from strop_api.worker import HARMLESS_ENVIRONMENT, ResourceAmounts

RESERVED_LABEL_DOMAINS = ("strop.dev", "k8s.io", "x-k8s.io", "kubernetes.io")
RESERVED_LABELS = ("job-name", "controller-uid")


@dataclass(frozen=True)
class Grant:
    """What a run may use."""

    policy: OptimizationPolicySpec
    store: Store
    image: WorkerImage
    newest: WorkerImage
    """What a new run would get: `image` may be that of an earlier attempt."""


@dataclass(frozen=True)
class Refusal:
    """Why a run may not be."""

    reason: Reason
    message: str


Question = Callable[[ModelOptimizationSpec, OptimizationPolicySpec, str], Iterator[str]]


def resolve(
    spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, namespace: str, image: str = ""
) -> Grant | Refusal:
    """What the policy grants. `image` is that of an earlier attempt, kept while the catalogue has it."""
    for ask in QUESTIONS:
        if complaint := next(ask(spec, policy, namespace), None):
            return Refusal(Reason.NOT_ALLOWED, complaint)
    store = next(s for s in policy.stores if s.name == spec.store_ref.name)
    able = [i for i in policy.images if _offered(spec, i) and not _lacks(spec, i)]
    if not able:
        return Refusal(Reason.UNSUPPORTED, _why_none(spec, policy))
    return Grant(policy, store, next((i for i in able if i.ref == image), able[0]), able[0])


def resolve_clean_up(
    spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, namespace: str, image: str = ""
) -> Grant | Refusal:
    """What the policy grants to whoever removes what was published: the same store, no folder but an output's, and any
    image, that of the run before others."""
    for ask in (_stores, _output):
        if complaint := next(ask(spec, policy, namespace), None):
            return Refusal(Reason.NOT_ALLOWED, complaint)
    store = next(s for s in policy.stores if s.name == spec.store_ref.name)
    fitting = sorted(policy.images, key=lambda i: (i.ref != image, not _offered(spec, i), bool(_lacks(spec, i))))
    return Grant(policy, store, fitting[0], fitting[0])


def _stores(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    names = [s.name for s in policy.stores]
    if spec.store_ref.name not in names:
        yield f"spec.storeRef.name: the policy has no store {spec.store_ref.name}; it has {', '.join(names)}"


def _output(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, namespace: str) -> Iterator[str]:
    store = next(s for s in policy.stores if s.name == spec.store_ref.name)
    prefixes = _filled(store.output_prefixes, namespace)
    if _climbs(spec.output.uri) or not any(_below(spec.output.uri, prefix) for prefix in prefixes):
        yield f"spec.output.uri: {spec.output.uri} does not lie below what the policy allows: {', '.join(prefixes)}"
    for records in _records(store, policy):
        if _meets(spec.output.uri, records):
            yield f"spec.output.uri: {records} holds the records, which only runs write: publish elsewhere"


def _inputs(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, namespace: str) -> Iterator[str]:
    """The credentials may read more than the resource's authors should: the records of every namespace, for one."""
    store = next(s for s in policy.stores if s.name == spec.store_ref.name)
    prefixes = _filled(store.input_prefixes, namespace)
    for field, uri in inputs(spec):
        if not uri.startswith("s3://"):
            continue
        if _climbs(uri):
            yield f"{field}: {uri} has an empty part, `.` or `..` in its path: name the object itself"
        for records in _records(store, policy):
            if _meets(uri, records):
                yield f"{field}: {records} holds the records, which are no input: name a file or folder elsewhere"
        if prefixes and not any(_below(uri, prefix) for prefix in prefixes):
            yield f"{field}: {uri} does not lie below what the policy allows: {', '.join(prefixes)}"


def _records(store: Store, policy: OptimizationPolicySpec) -> list[str]:
    """Where records lie at this endpoint; two stores may be one, with other credentials."""
    return [s.records_uri for s in policy.stores if s.endpoint == store.endpoint]


def _filled(prefixes: list[str], namespace: str) -> list[str]:
    return [prefix.replace("{namespace}", namespace) for prefix in prefixes]


def _climbs(uri: str) -> bool:
    """Whether what a store or a proxy makes of the path may differ from what it says."""
    path = uri.partition("://")[2].removesuffix("/")
    return any(part in ("", ".", "..") for part in path.split("/"))


def _below(uri: str, folder: str) -> bool:
    """By whole parts of the path: `s3://engines-of-others` is not below `s3://engines`."""
    return uri.rstrip("/") == folder.rstrip("/") or uri.startswith(folder.rstrip("/") + "/")


def _meets(uri: str, folder: str) -> bool:
    """Whether one lies in the other: a folder that is read or written whole takes along what is in it."""
    return _below(uri, folder) or _below(folder, uri)


def _code(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    architecture = spec.model.architecture
    if policy.allow_code:
        return
    if spec.model.format is ModelFormat.TORCH_EXPORT:
        yield "spec.model.format: a TorchExport file is code, and the policy does not set allowCode"
    if architecture is not None and architecture.source is not None:
        yield "spec.model.architecture.source: the policy does not set allowCode"


def _worker(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    worker, allow = spec.worker, policy.allow
    named = (
        ("serviceAccountName", worker.service_account_name, allow.service_accounts),
        ("queueName", worker.queue_name, allow.queues),
        ("priorityClassName", worker.priority_class_name, allow.priority_classes),
        ("runtimeClassName", worker.runtime_class_name, allow.runtime_classes),
    )
    for field, value, allowed in named:
        if value is not None and value not in allowed:
            yield f"spec.worker.{field}: the policy does not allow {value}; it allows {', '.join(allowed) or 'none'}"
    yield from _tolerations(spec, allow)
    yield from _environment(spec, allow)
    for key in worker.labels:
        domain = key.rpartition("/")[0]
        if key in RESERVED_LABELS or any(domain == d or domain.endswith("." + d) for d in RESERVED_LABEL_DOMAINS):
            yield f"spec.worker.labels: {key} is reserved"


def _tolerations(spec: ModelOptimizationSpec, allow: Allowlists) -> Iterator[str]:
    for index, toleration in enumerate(spec.worker.tolerations):
        if toleration.key not in allow.toleration_keys:
            keys = ", ".join(allow.toleration_keys) or "none"
            yield f"spec.worker.tolerations[{index}].key: the policy allows {keys}"


def _environment(spec: ModelOptimizationSpec, allow: Allowlists) -> Iterator[str]:
    """A variable can load code beside the credentials, or send them elsewhere: only names that are known are let in."""
    for index, variable in enumerate(spec.worker.env):
        if variable.name not in HARMLESS_ENVIRONMENT and variable.name not in allow.environment:
            yield (
                f"spec.worker.env[{index}].name: the policy does not allow {variable.name}: remove it, or have it "
                f"added to the policy's allow.environment; always allowed are {', '.join(HARMLESS_ENVIRONMENT)}"
            )


def _accelerators(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    allowed = policy.allow.accelerator_resources
    for index, target in enumerate(spec.targets):
        if target.accelerator is not None and not any(_like(target.accelerator.resource, a) for a in allowed):
            names = ", ".join(allowed) or "none"
            field = f"spec.targets[{index}].accelerator.resource"
            yield f"{field}: the policy does not allow {target.accelerator.resource}; it allows {names}"


def _like(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _claims(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    for claim in claims(spec):
        if claim not in policy.allow.persistent_volume_claims:
            yield f"pvc://{claim}: the policy does not allow this claim"
    for uri in uris(spec):
        if uri.startswith("file://"):
            yield f"{uri}: file:// is for the command line; a pod has no such files"


def resources(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec) -> dict[str, dict[str, str]]:
    """Requests and limits of the worker: what the spec says, and the policy's where it says nothing."""
    asked, default = spec.worker.resources, policy.worker.resources
    return {
        "requests": _amounts(default.requests) | _amounts(asked.requests),
        "limits": _amounts(default.limits) | _amounts(asked.limits),
    }


def _amounts(amounts: ResourceAmounts) -> dict[str, str]:
    return amounts.model_dump(mode="json", by_alias=True, exclude_none=True)


def _resources(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    """Each alone is in order, or the rules would have said so: here the policy's defaults join."""
    joined = resources(spec, policy)
    for name, limit in joined["limits"].items():
        request = joined["requests"].get(name)
        if request is not None and quantity(request) > quantity(limit):
            yield (
                f"spec.worker.resources: with the policy's defaults the request of {name}, {request}, "
                f"is above its limit, {limit}: set both"
            )


def _limits(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    wanted = sum(t.accelerator.count for t in spec.targets if t.accelerator is not None)
    if wanted > policy.limits.accelerators:
        yield f"spec.targets: {wanted} accelerators; the policy allows {policy.limits.accelerators}"
    longest = policy.limits.active_deadline_seconds
    if spec.active_deadline_seconds > longest:
        yield f"spec.activeDeadlineSeconds: {spec.active_deadline_seconds}; the policy allows {longest}"


QUESTIONS: tuple[Question, ...] = (
    _stores, _output, _inputs, _code, _worker, _claims, _resources, _accelerators, _limits,
)  # fmt: skip
"""What the policy may forbid, in this order; the first complaint is the answer."""


def inputs(spec: ModelOptimizationSpec) -> Iterator[tuple[str, str]]:
    """Every URI that a run would read, with its field."""
    yield "spec.model.uri", spec.model.uri
    if spec.model.architecture is not None and spec.model.architecture.source is not None:
        yield "spec.model.architecture.source.uri", spec.model.architecture.source.uri
    for role in type(spec.data).model_fields:
        source: DataSource | None = getattr(spec.data, role)
        if source is not None:
            yield f"spec.data.{role}.uri", source.uri
            if source.tokenizer is not None:
                yield f"spec.data.{role}.tokenizer.uri", source.tokenizer.uri
    for index, step in enumerate(spec.steps):
        for number, adapter in enumerate(step.merge.adapters if step.merge is not None else ()):
            yield f"spec.steps[{index}].merge.adapters[{number}]", adapter
        if step.distil is not None and step.distil.teacher is not None:
            yield f"spec.steps[{index}].distil.teacher", step.distil.teacher


def uris(spec: ModelOptimizationSpec) -> Iterator[str]:
    """Every URI that a run would read or write."""
    yield from (uri for _, uri in inputs(spec))
    yield spec.output.uri


def claims(spec: ModelOptimizationSpec) -> list[str]:
    """Persistent volume claims that a run reads, sorted."""
    return sorted({u.removeprefix("pvc://").split("/")[0] for u in uris(spec) if u.startswith("pvc://")})


def _offered(spec: ModelOptimizationSpec, image: WorkerImage) -> bool:
    return spec.worker.image in (None, image.name)


def _lacks(spec: ModelOptimizationSpec, image: WorkerImage) -> str:
    """What the run needs and the image has not; empty when it serves."""
    for target in spec.targets:
        if target.runtime not in image.runtimes:
            return f"runtime {target.runtime}"
        if target.accelerator is not None and not image.gpu:
            return "accelerator support"
    for step in spec.steps:
        if step.type not in image.step_types:
            return f"step type {step.type}"
    return next((f"callable {c}" for c in _callables(spec) if c not in image.architectures), "")


def _callables(spec: ModelOptimizationSpec) -> Iterator[str]:
    architecture = spec.model.architecture
    if architecture is not None and architecture.source is None:
        yield architecture.callable
    if spec.task.callable is not None:
        yield spec.task.callable


def _why_none(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec) -> str:
    offered = [i for i in policy.images if _offered(spec, i)]
    if not offered:
        names = ", ".join(i.name for i in policy.images)
        return f"spec.worker.image: the policy's catalogue has no {spec.worker.image}; it has {names}"
    return "no image of the policy's catalogue serves this: " + "; ".join(
        f"{i.name} has no {_lacks(spec, i)}" for i in offered
    )
