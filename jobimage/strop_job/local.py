"""From a YAML file on a laptop to a run request: what the operator does in a cluster, without one."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from strop_api.identity import run_id, spec_hash
from strop_api.optimization import KIND, ModelOptimizationSpec
from strop_api.policy import POLICY_KIND, OptimizationPolicySpec, Store
from strop_api.result import RunRequest, StoreAccess
from strop_api.rules import InvalidSpec, Problem, validate, validate_policy
from strop_api.targets import Cpu
from strop_job.errors import InvalidInput
from strop_job.store.credentials import EnvironmentCredentials
from strop_job.store.local import LocalStore
from strop_job.store.objects import ObjectStore, join

SPEC_LIMIT_BYTES = 1 << 20
RECORDS_URI = "s3://strop-records"
DEFAULT_NAMESPACE = "default"
S3 = "s3"
"""Value of --store that means a real endpoint, from the environment or the policy."""
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class Wishes:
    """What the command line adds to the file."""

    store: str
    policy: Path | None = None
    allow_code: bool = False
    threads: int | None = None


def read_documents(path: Path) -> list[Mapping[str, Any]]:
    """Every YAML document of a file that is a mapping. Raises InvalidInput if it cannot be read."""
    try:
        if path.stat().st_size > SPEC_LIMIT_BYTES:
            raise InvalidInput(f"{path} is larger than 1 MiB", mend="give a ModelOptimization")
        found = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", mend="give the path of a YAML file") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text", mend="give a YAML file") from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path} is not YAML: {_yaml_words(error)}") from None
    return [document for document in found if isinstance(document, Mapping)]


def read_request(path: Path, wishes: Wishes) -> RunRequest:
    """The run that a file asks for. Raises InvalidInput, or InvalidSpec with every problem of the spec."""
    document = _only(read_documents(path), KIND, path)
    spec = _with_threads(validate(document, cluster=False), wishes.threads)
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise InvalidSpec([Problem("metadata.name", "is missing: give the resource a name")])
    namespace, name = str(metadata.get("namespace") or DEFAULT_NAMESPACE), metadata["name"]
    uid = _local_uid(namespace, name)
    policy = read_policy(wishes.policy)
    return RunRequest(
        namespace=namespace,
        name=name,
        uid=uid,
        run_id=run_id(uid, spec_hash(spec)),
        target=spec.targets[0].name,
        spec=spec,
        image=f"local/strop:{_release()}",
        store=find_store(wishes, policy, spec.store_ref.name, namespace),
        allow_code=wishes.allow_code or (policy is not None and policy.allow_code),
    )


def open_store(access: StoreAccess, wishes: Wishes) -> tuple[ObjectStore, tuple[str, ...]]:
    """The folder, or the S3 endpoint with the environment's credentials, and the texts to keep out of messages.

    The credentials are taken out of the environment, so that no process started later inherits them.
    """
    if wishes.store != S3:
        return LocalStore(Path(wishes.store)), ()
    from strop_job.store.s3 import S3Store

    taken = {name: value for name in CREDENTIALS if (value := os.environ.pop(name, None))}
    return S3Store(access, EnvironmentCredentials(taken)), tuple(taken.values())


def _release() -> str:
    try:
        return version("strop")
    except PackageNotFoundError:
        return "source"


def _only(documents: list[Mapping[str, Any]], kind: str, path: Path) -> Mapping[str, Any]:
    found = [document for document in documents if document.get("kind") == kind]
    if len(found) != 1:
        raise InvalidInput(f"{path} holds {len(found) or 'no'} documents of kind {kind}", mend="give exactly one")
    return found[0]


def read_policy(path: Path | None) -> OptimizationPolicySpec | None:
    """The policy of a file, if one is named. Raises InvalidInput, or InvalidSpec."""
    if path is None:
        return None
    return validate_policy(_only(read_documents(path), POLICY_KIND, path))


def find_store(wishes: Wishes, policy: OptimizationPolicySpec | None, name: str, namespace: str) -> StoreAccess:
    """Where the store is: a folder, an entry of the policy, or what the environment says. Raises InvalidInput."""
    if wishes.store != S3:
        return StoreAccess(endpoint="file://local", region="local", records_uri=join(RECORDS_URI, namespace))
    if policy is not None:
        return _entry(policy, name).access(namespace)
    endpoint = os.environ.get("STROP_S3_ENDPOINT")
    if not endpoint:
        raise InvalidInput("--store s3 needs an address", mend="set STROP_S3_ENDPOINT, or give --policy")
    return StoreAccess(
        endpoint=endpoint,
        region=os.environ.get("AWS_REGION", "us-east-1"),
        records_uri=join(os.environ.get("STROP_RECORDS_URI", RECORDS_URI), namespace),
    )


def _entry(policy: OptimizationPolicySpec, name: str) -> Store:
    for store in policy.stores:
        if store.name == name:
            return store
    raise InvalidInput(f"the policy has no store named {name}", field="spec.storeRef.name", mend="name one that it has")


def _with_threads(spec: ModelOptimizationSpec, threads: int | None) -> ModelOptimizationSpec:
    """--threads is the same wish as spec.targets[].cpu.threads, and so a part of the run's identity."""
    if threads is None:
        return spec
    if any(target.accelerator is not None for target in spec.targets):
        raise InvalidInput(
            "--threads is for CPU targets", field="spec.targets[0].accelerator", mend="leave --threads out"
        )
    targets = [
        target.model_copy(update={"cpu": (target.cpu or Cpu()).model_copy(update={"threads": threads})})
        for target in spec.targets
    ]
    return spec.model_copy(update={"targets": targets})


def _local_uid(namespace: str, name: str) -> str:
    """The same resource has the same identity each time."""
    return "local-" + hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()[:16]


def _yaml_words(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + (problem or str(error).splitlines()[0])
