"""`strop plan -f`: what applying a file would start, what refuses it, which node could take it, what is on record.

Everything is asked for and nothing is changed: the API server's own word comes from a dry run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from strop_api.failures import ExitCode
from strop_api.findings import Finding
from strop_api.grants import Grant, Refusal, resolve
from strop_api.identity import HASH_VERSION, run_id, spec_hash
from strop_api.optimization import KIND, ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_api.rules import InvalidSpec, Problem, check_support, findings, validate
from strop_api.support import THIS_BUILD
from strop_cli.cluster import Cluster
from strop_cli.door import Door, open_door, policy_of
from strop_cli.errors import CliError, Forbidden, Missing, UnusableInput
from strop_cli.kinds import NODES, OPTIMIZATIONS
from strop_cli.nodes import Fit, fit, need_of, node_fact
from strop_cli.optimizations import Optimization, is_current, parse
from strop_job.errors import StropError
from strop_job.judgement.figures import seconds_text
from strop_job.local import read_documents


@dataclass(frozen=True)
class Cached:
    """One stage, and whether the store has its record."""

    stage: str
    seconds: float | None
    """What it had cost; None where no record was found."""


@dataclass(frozen=True)
class Forecast:
    """What applying the file would come to."""

    name: str
    namespace: str
    action: str
    """What would happen, in words."""
    refusals: tuple[str, ...] = ()
    code: int = 0
    image: str = ""
    findings: tuple[Finding, ...] = ()
    nodes: tuple[Fit, ...] = ()
    stages: tuple[Cached, ...] = ()
    unknown: tuple[str, ...] = ()
    """What could not be looked at, and why."""

    def document(self) -> dict[str, JsonValue]:
        """As JSON."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "action": self.action,
            "refusals": list(self.refusals),
            "image": self.image or None,
            "findings": [f.model_dump(mode="json", by_alias=True) for f in self.findings],
            "nodes": [{"name": n.node, "fits": n.fits, "faults": list(n.faults), "notes": list(n.notes)}
                      for n in self.nodes],
            "stages": [{"name": s.stage, "onRecord": s.seconds is not None, "seconds": s.seconds}
                       for s in self.stages],
            "unknown": list(self.unknown),
        }  # fmt: skip


@dataclass(frozen=True)
class Order:
    """A file's resource, understood."""

    document: Mapping[str, Any]
    spec: ModelOptimizationSpec
    name: str
    namespace: str
    present: Optimization | None
    """The resource of that name in the cluster."""


def forecast(cluster: Cluster, path: Path, fallback: str) -> Forecast:
    """Look at everything. Raises CliError where the cluster cannot be asked at all."""
    document = _read(path)
    name, namespace = _identity(document, cluster)
    cluster = cluster.inside(namespace)
    try:
        spec = validate(document, cluster=True)
    except InvalidSpec as invalid:
        return _refused(name, namespace, invalid.problems, ExitCode.INVALID_INPUT)
    if problems := check_support(spec, THIS_BUILD):
        return _refused(name, namespace, problems, ExitCode.UNSUPPORTED)
    order = Order(document, spec, name, namespace, _present(cluster, name))
    unknown = list(_dry_run(cluster, order))
    try:
        granted = resolve(spec, policy_of(cluster, namespace, fallback), namespace)
    except (Forbidden, Missing) as error:
        return Forecast(name, namespace, _action(order), findings=tuple(findings(spec)),
                        unknown=(*unknown, f"policy, image, nodes and records: {error.message}"))  # fmt: skip
    if isinstance(granted, Refusal):
        words = f"{granted.reason}: {granted.message}"
        return Forecast(name, namespace, "applied, it would stall", (words,), int(ExitCode.UNSUPPORTED))
    nodes, no_nodes = _nodes(cluster, spec, granted)
    stages, no_stages = _stages(cluster, order, granted, fallback)
    return Forecast(
        name, namespace, _action(order), image=granted.image.ref, findings=tuple(findings(spec)), nodes=nodes,
        stages=stages, unknown=(*unknown, *no_nodes, *no_stages),
    )  # fmt: skip


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = [d for d in read_documents(path) if d.get("kind") == KIND]
    except StropError as error:
        raise UnusableInput(str(error)) from None
    if len(found) != 1:
        raise UnusableInput(f"{path} holds {len(found) or 'no'} documents of kind {KIND}", mend="give exactly one")
    return found[0]


def _identity(document: Mapping[str, Any], cluster: Cluster) -> tuple[str, str]:
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise UnusableInput("metadata.name is missing", mend="give the resource a name")
    return metadata["name"], str(metadata.get("namespace") or cluster.namespace)


def _refused(name: str, namespace: str, problems: Iterator[Problem] | Any, code: ExitCode) -> Forecast:
    return Forecast(name, namespace, "refused", tuple(str(problem) for problem in problems), int(code))


def _present(cluster: Cluster, name: str) -> Optimization | None:
    try:
        return parse(cluster.get(OPTIMIZATIONS, name))
    except Missing:
        return None


def _dry_run(cluster: Cluster, order: Order) -> Iterator[str]:
    """What the API server says of the file; a refusal is raised, not being allowed to ask is only told."""
    try:
        cluster.apply_dry(OPTIMIZATIONS, order.name, yaml.safe_dump(dict(order.document)))
    except Forbidden as error:
        yield f"what the API server's admission says: {error.message}"


def _action(order: Order) -> str:
    """What applying the file would start."""
    present, made = order.present, spec_hash(order.spec)
    if present is None:
        return "a new resource; its first run starts"
    if order.spec.suspend:
        return "suspended: nothing runs"
    run = present.status.run
    if run is None:
        return "the resource is there and has had no run; one starts"
    if run.hash_version != HASH_VERSION:
        return f"run {run.id} was told by another release's rule: the operator knows whether it still holds"
    if run.spec_hash != made:
        return f"a new run replaces run {run.id}: what decides the outcome differs"
    ready = present.ready
    how = f"{ready.reason}" if ready is not None and is_current(present) else "not settled"
    return f"nothing new runs: run {run.id} is of this very spec ({how})"


def _nodes(cluster: Cluster, spec: ModelOptimizationSpec, granted: Grant) -> tuple[tuple[Fit, ...], tuple[str, ...]]:
    need = need_of(spec, spec.targets[0], granted.policy)
    try:
        found = cluster.list(NODES, None)
    except Forbidden as error:
        return (), (f"nodes: {error.message}",)
    return tuple(fit(node_fact(document), need) for document in found), ()


def _stages(
    cluster: Cluster, order: Order, granted: Grant, fallback: str
) -> tuple[tuple[Cached, ...], tuple[str, ...]]:
    """The stages and their records, by this machine's libraries and hardware."""
    try:
        door = open_door(cluster, order.namespace, order.spec.store_ref.name, fallback)
        return tuple(_on_record(door, order, granted)), ()
    except ModuleNotFoundError as missing:
        return (), (f"stages and records: {missing.name} is not installed (pip install 'strop[job]')",)
    except (CliError, StropError) as error:
        return (), (f"stages and records: {error}",)


def _on_record(door: Door, order: Order, granted: Grant) -> Iterator[Cached]:
    from strop_job.plan import make_plan
    from strop_job.sources import Reach
    from strop_job.walk import forecast as foresee
    from strop_job.walk import records_of

    uid = order.present.uid if order.present is not None else "not-applied-yet"
    request = RunRequest(
        namespace=order.namespace,
        name=order.name,
        uid=uid,
        run_id=run_id(uid, spec_hash(order.spec)),
        target=order.spec.targets[0].name,
        spec=order.spec,
        image=granted.image.ref,
        store=door.access,
        allow_code=granted.policy.allow_code,
    )
    plan = make_plan(request, Reach(door.store))
    for stage, record in foresee(plan, records_of(request, door.store)):
        yield Cached(stage.name, record.seconds if record is not None else None)


def node_rows(nodes: tuple[Fit, ...]) -> Iterator[tuple[str, str, str]]:
    """Those that fit first."""
    for found in sorted(nodes, key=lambda n: (not n.fits, n.node)):
        yield found.node, "yes" if found.fits else "no", "; ".join(found.faults or found.notes)


def stage_rows(stages: tuple[Cached, ...]) -> Iterator[tuple[str, str]]:
    """In the plan's order."""
    for stage in stages:
        yield stage.stage, f"yes, {seconds_text(stage.seconds)} saved" if stage.seconds is not None else "not found"
