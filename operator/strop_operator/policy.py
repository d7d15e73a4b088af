"""What the namespace's policy grants a resource: its store and its image, or a refusal that names the field."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from strop_api.model import ModelFormat
from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import Allowlists, OptimizationPolicySpec, Store, WorkerImage
from strop_api.reasons import Reason

RESERVED_LABEL_DOMAINS = ("strop.dev", "k8s.io", "x-k8s.io", "kubernetes.io")
RESERVED_LABELS = ("job-name", "controller-uid")


@dataclass(frozen=True)
class Grant:
    """What a run may use."""

    policy: OptimizationPolicySpec
    store: Store
    image: WorkerImage


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
    return Grant(policy, store, next((i for i in able if i.ref == image), able[0]))


def _stores(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    names = [s.name for s in policy.stores]
    if spec.store_ref.name not in names:
        yield f"spec.storeRef.name: the policy has no store {spec.store_ref.name}; it has {', '.join(names)}"


def _output(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, namespace: str) -> Iterator[str]:
    store = next(s for s in policy.stores if s.name == spec.store_ref.name)
    prefixes = [p.replace("{namespace}", namespace) for p in store.output_prefixes]
    if not any(_below(spec.output.uri, prefix) for prefix in prefixes):
        yield f"spec.output.uri: {spec.output.uri} does not lie below what the policy allows: {', '.join(prefixes)}"


def _below(uri: str, prefix: str) -> bool:
    if ".." in uri.split("/"):
        return False
    return uri == prefix or uri.startswith(prefix.rstrip("/") + "/")


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
    for key in worker.labels:
        domain = key.rpartition("/")[0]
        if key in RESERVED_LABELS or any(domain == d or domain.endswith("." + d) for d in RESERVED_LABEL_DOMAINS):
            yield f"spec.worker.labels: {key} is reserved"


def _tolerations(spec: ModelOptimizationSpec, allow: Allowlists) -> Iterator[str]:
    for index, toleration in enumerate(spec.worker.tolerations):
        if toleration.key not in allow.toleration_keys:
            keys = ", ".join(allow.toleration_keys) or "none"
            yield f"spec.worker.tolerations[{index}].key: the policy allows {keys}"


def _claims(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    for claim in claims(spec):
        if claim not in policy.allow.persistent_volume_claims:
            yield f"pvc://{claim}: the policy does not allow this claim"
    for uri in uris(spec):
        if uri.startswith("file://"):
            yield f"{uri}: file:// is for the command line; a pod has no such files"


def _limits(spec: ModelOptimizationSpec, policy: OptimizationPolicySpec, _: str) -> Iterator[str]:
    wanted = sum(t.accelerator.count for t in spec.targets if t.accelerator is not None)
    if wanted > policy.limits.accelerators:
        yield f"spec.targets: {wanted} accelerators; the policy allows {policy.limits.accelerators}"
    longest = policy.limits.active_deadline_seconds
    if spec.active_deadline_seconds > longest:
        yield f"spec.activeDeadlineSeconds: {spec.active_deadline_seconds}; the policy allows {longest}"


QUESTIONS: tuple[Question, ...] = (_stores, _output, _code, _worker, _claims, _limits)
"""What the policy may forbid, in this order; the first complaint is the answer."""


def uris(spec: ModelOptimizationSpec) -> Iterator[str]:
    """Every URI that a run would read or write."""
    yield spec.model.uri
    if spec.model.architecture is not None and spec.model.architecture.source is not None:
        yield spec.model.architecture.source.uri
    data = spec.data
    for source in (data.calibration, data.training, data.validation, data.evaluation):
        if source is not None:
            yield source.uri
            if source.tokenizer is not None:
                yield source.tokenizer.uri
    for step in spec.steps:
        yield from step.merge.adapters if step.merge is not None else ()
        if step.distil is not None and step.distil.teacher is not None:
            yield step.distil.teacher
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
