"""Gathers what is known of one resource into one frozen value."""

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from pydantic import ValidationError

from strop_api import API_VERSION
from strop_api.errands import ErrandKind
from strop_api.findings import Finding
from strop_api.grants import Grant, Refusal, resolve, resolve_clean_up
from strop_api.identity import HASH_VERSION, run_id, spec_hash
from strop_api.optimization import KIND, ModelOptimizationSpec
from strop_api.policy import POLICY_NAME, OptimizationPolicySpec
from strop_api.reasons import Reason
from strop_api.result import ProgressReport
from strop_api.rules import InvalidSpec, check_support, findings, validate
from strop_api.status import ModelOptimizationStatus, RunStatus
from strop_api.support import THIS_BUILD
from strop_operator.cache import Cache
from strop_operator.facts import JobFact, Key, PodFact, ResourceFact, unpacked
from strop_operator.pods import counted


class Look(StrEnum):
    """What must be asked of the API server itself before a check may rely on something not being there."""

    JOBS = "Jobs"
    """The resource's Jobs and pods."""
    POLICY = "Policy"
    """The policies that may apply."""
    EVENTS = "Events"
    """Warnings about the Job or its pod."""


NOT_ASKED = Refusal(Reason.NO_POLICY, "")


@dataclass(frozen=True)
class Observed:
    """All that is known, at one moment."""

    fact: ResourceFact
    status: ModelOptimizationStatus
    now: float
    """Seconds since 1970."""
    spec: ModelOptimizationSpec | None = None
    problem: Refusal | None = None
    """Why the spec cannot be carried out, whatever the policy says."""
    spec_hash: str = ""
    run_id: str = ""
    """The run that is wanted."""
    findings: tuple[Finding, ...] = ()
    """Questionable choices in the spec."""
    grant: Grant | Refusal = NOT_ASKED
    policy_gone_at: float = 0.0
    """When the policy that applied was found gone; 0 when there was none."""
    policy_since: float = 0.0
    """When the present version of the policy that applies was first seen."""
    jobs: tuple[JobFact, ...] = ()
    """Of runs, oldest first."""
    pods: tuple[PodFact, ...] = ()
    errands: tuple[JobFact, ...] = ()
    """Jobs that are no run's."""
    errand_pods: tuple[PodFact, ...] = ()
    checks: int = 0
    """Drift checks at work, of all resources."""
    evictions: int = 0
    progress: ProgressReport | None = None
    warning: str = ""
    """The newest warning about the Job or its pod; known only after Look.EVENTS."""
    conflict: str = ""
    """Who owns a Job of our name."""
    occupied: int = 0
    """Places taken in the namespace."""
    ahead: int = 0
    """Resources whose turn for a place comes first."""
    looked: frozenset[Look] = field(default=frozenset())
    before_start: bool = True
    """The resource is older than this process: an unseen Job may exist."""

    @property
    def job(self) -> JobFact | None:
        """The newest Job of the wanted run."""
        return next((j for j in reversed(self.jobs) if self.run_id and j.run_id == self.run_id), None)

    @property
    def job_pods(self) -> tuple[PodFact, ...]:
        """Pods of that Job, oldest first."""
        return tuple(p for p in self.pods if self.job is not None and p.job_uid == self.job.uid)

    @property
    def clean_up(self) -> JobFact | None:
        """The clean-up that was tried last."""
        found = [job for job in self.errands if job.errand == ErrandKind.CLEAN_UP and not job.deleting]
        return max(found, key=lambda job: job.attempt, default=None)

    @property
    def waited_for(self) -> str:
        """UID of what should be at work: the newest pod of the Job, or the Job when it has none; of a clean-up the
        Job, since it is asked about only without a pod."""
        if self.fact.deleting:
            return self.clean_up.uid if self.clean_up is not None else ""
        return self.job_pods[-1].uid if self.job_pods else self.job.uid if self.job is not None else ""

    @property
    def run(self) -> RunStatus | None:
        """What is recorded of the wanted run."""
        run = self.status.run
        return run if run is not None and run.id == self.run_id else None

    @property
    def attempt(self) -> int:
        """Jobs launched so far for the wanted run."""
        recorded = self.run.attempt if self.run is not None else 0
        return max(recorded, self.job.attempt if self.job is not None else 0)

    @property
    def spent(self) -> "Spent":
        """What the wanted run has used up; nothing when it had ended, and is asked anew."""
        run = self.run if self.run is not None and self.run.finished_at is None else None
        known = Spent(run.failures, run.lost, run.spent_seconds) if run is not None else NOTHING_SPENT
        if self.job is None:
            return known
        # A pod that ends because its Job is suspended has not failed: Kubernetes does not count it either.
        failures = self.job.failures + (0 if self.job.suspended else sum(counted(pod) for pod in self.job_pods))
        return Spent(max(known.failures, failures), max(known.lost, self.job.lost), self.job.seconds)


@dataclass(frozen=True)
class Spent:
    """What the Jobs of one run have used up of what the spec gives it."""

    failures: int = 0
    """Failed attempts that count against the retries."""
    lost: int = 0
    """Results that were lost."""
    seconds: int = 0
    """Time, of the deadline."""


NOTHING_SPENT = Spent()


def observe(cache: Cache, key: Key, operator_namespace: str, now: float) -> Observed | None:
    """What the cache knows of a resource; None when there is no such resource."""
    fact = cache.resources.get(key)
    if fact is None:
        return None
    status = _status(unpacked(fact.status))
    seen = _identified(Observed(fact, status, now))
    jobs, pods = cache.jobs.of(fact.uid), cache.pods.of(fact.uid)
    whose, until = cache.conflicts.get(key, ("", 0.0))
    seen = replace(
        seen,
        jobs=tuple(job for job in jobs if not job.errand),
        pods=tuple(pod for pod in pods if not pod.errand),
        errands=tuple(job for job in jobs if job.errand),
        errand_pods=tuple(pod for pod in pods if pod.errand),
        checks=cache.live_checks,
        conflict=whose if until > now else "",
        occupied=cache.occupied(fact.namespace, key),
        ahead=cache.ahead(key),
    )
    job, pod = seen.job, (seen.job_pods or (None,))[-1]
    return replace(
        seen,
        evictions=cache.evictions[job.uid] if job is not None and job.uid in cache.evictions else 0,
        progress=cache.progress.get(pod.uid) if pod is not None else None,
        grant=_grant(seen, cache, operator_namespace),
        policy_since=cache.policies_since.get(_policy_place(cache, fact.namespace, operator_namespace), 0.0),
        policy_gone_at=max(cache.policies_gone.get(n, 0.0) for n in (fact.namespace, operator_namespace)),
    )


def _status(data: bytes) -> ModelOptimizationStatus:
    """What was reported before; nothing when it cannot be read, for the status is ours to compose anew."""
    try:
        return ModelOptimizationStatus.model_validate_json(data)
    except ValidationError:
        return ModelOptimizationStatus()


def _by_another_rule(seen: Observed, run: RunStatus, wanted: str, hash_: str) -> tuple[str, str]:
    """Hashed by another release, or not readable by this one: the spec is the same as long as its generation is."""
    said_of = run.observed_generation if run.observed_generation is not None else seen.status.observed_generation
    same = said_of == seen.fact.generation and seen.fact.rerun in ("", run.rerun)
    return (run.id, run.spec_hash) if same else (wanted, hash_)


@dataclass(frozen=True)
class Understood:
    """What a spec says, read once for each of its versions."""

    spec: ModelOptimizationSpec | None
    problem: Refusal | None = None
    spec_hash: str = ""
    findings: tuple[Finding, ...] = ()


@lru_cache(maxsize=128)
def understand(data: bytes) -> Understood:
    """The packed spec; with a problem when it contradicts itself or asks for more than this release can do."""
    text = unpacked(data)
    document = {"apiVersion": API_VERSION, "kind": KIND, "spec": json.loads(text)}
    try:
        spec = validate(document, cluster=True)
    except InvalidSpec as error:
        spec_ = _parsed(text)
        hash_ = spec_hash(spec_) if spec_ is not None else ""
        return Understood(spec_, Refusal(Reason.INVALID_SPEC, _cut(str(error))), hash_)
    problems = check_support(spec, THIS_BUILD)
    problem = Refusal(Reason.UNSUPPORTED, _cut("; ".join(map(str, problems)))) if problems else None
    return Understood(spec, problem, spec_hash(spec), tuple(findings(spec)))


def _parsed(data: bytes) -> ModelOptimizationSpec | None:
    """A spec that breaks a rule may still be read: a run that was launched before the rule goes on."""
    try:
        return ModelOptimizationSpec.model_validate_json(data)
    except ValidationError:
        return None


def _cut(text: str) -> str:
    return text if len(text) <= 1024 else text[:1023] + "…"


def _identified(seen: Observed) -> Observed:
    """With the spec understood and the run it asks for."""
    known = understand(seen.fact.spec)
    fact, run = seen.fact, seen.status.run
    hash_ = known.spec_hash
    wanted = run_id(fact.uid, hash_, fact.rerun) if known.spec is not None else ""
    if run is not None and (known.spec is None or run.hash_version != HASH_VERSION):
        wanted, hash_ = _by_another_rule(seen, run, wanted, hash_)
    elif run is not None and run.rerun and not fact.rerun and run.spec_hash == hash_:
        wanted = run.id  # to take the annotation away is not to ask again
    return replace(
        seen, spec=known.spec, spec_hash=hash_, run_id=wanted, problem=known.problem, findings=known.findings
    )


def _grant(seen: Observed, cache: Cache, operator_namespace: str) -> Grant | Refusal:
    namespace = seen.fact.namespace
    fact = cache.policies.get(_policy_place(cache, namespace, operator_namespace))
    if fact is None:
        where = (
            f"neither {namespace} nor {operator_namespace}" if namespace != operator_namespace else f"not {namespace}"
        )
        return Refusal(Reason.NO_POLICY, f"{where} has an OptimizationPolicy named default")
    policy = _policy(fact.namespace, fact.spec)
    if isinstance(policy, Refusal) or seen.spec is None:
        return policy if isinstance(policy, Refusal) else Refusal(Reason.INVALID_SPEC, "")
    run = seen.status.run
    image = run.image if run is not None and run.id == seen.run_id else ""
    return (resolve_clean_up if seen.fact.deleting else resolve)(seen.spec, policy, namespace, image)


def _policy_place(cache: Cache, namespace: str, operator_namespace: str) -> str:
    return namespace if namespace in cache.policies else operator_namespace


@lru_cache(maxsize=256)
def _policy(namespace: str, data: bytes) -> OptimizationPolicySpec | Refusal:
    """The packed policy, read once for each of its versions."""
    try:
        return OptimizationPolicySpec.model_validate_json(unpacked(data))
    except ValidationError as error:
        where = f"OptimizationPolicy {namespace}/{POLICY_NAME}"
        return Refusal(Reason.NO_POLICY, f"{where} cannot be understood: {describe(error)}")


def describe(error: ValidationError) -> str:
    """The first few mistakes, each with its field."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False)[:3]:
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem["loc"])
        lines.append(f"spec{place}: {problem['msg']}")
    return "; ".join(lines)
