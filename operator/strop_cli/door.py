"""The way to the object store with what the user may use: the policy's Secret, or the keys of their environment.

Whether the Secret may be read is RBAC's to say. The values of keys are kept in memory and appear nowhere.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass

from strop_api.policy import POLICY_NAME, OptimizationPolicySpec, Store
from strop_api.result import StoreAccess
from strop_api.rules import InvalidSpec, validate_policy
from strop_cli.cluster import Cluster
from strop_cli.errors import CliError, Forbidden, Missing, UnusableInput
from strop_cli.kinds import POLICIES, SECRETS
from strop_job.errors import StoreFailed
from strop_job.store.credentials import Credentials, EnvironmentCredentials
from strop_job.store.objects import ObjectStore
from strop_job.store.s3 import Patience, S3Store

ENDPOINT, ACCESS_KEY = "STROP_S3_ENDPOINT", "AWS_ACCESS_KEY_ID"
HASTY = Patience(attempts=2, request_retries=1, connect_seconds=4.0, read_seconds=60.0)
"""Somebody waits for it; a run in the cluster has more patience."""


@dataclass(frozen=True)
class Fixed:
    """Keys that were read once."""

    keys: Credentials

    def current(self) -> Credentials:
        """Them."""
        return self.keys


@dataclass(frozen=True)
class Door:
    """An open store, and how it was opened, for messages."""

    store: ObjectStore
    access: StoreAccess
    how: str


def policy_of(cluster: Cluster, namespace: str, fallback: str) -> OptimizationPolicySpec:
    """The namespace's policy, or that of the operator's namespace. Raises CliError."""
    try:
        document = cluster.get(POLICIES, POLICY_NAME, namespace)
    except Missing:
        try:
            document = cluster.get(POLICIES, POLICY_NAME, fallback)
        except Missing:
            words = f"neither {namespace} nor {fallback} has an OptimizationPolicy named {POLICY_NAME}"
            mend = "have an admin make one; --operator-namespace says where the operator runs"
            raise Missing(words, mend=mend) from None
    try:
        return validate_policy(document)
    except InvalidSpec as invalid:
        words = f"the policy cannot be understood: {invalid.problems[0]}"
        raise CliError(words, mend="use the release of strop that the cluster runs") from None


def open_door(
    cluster: Cluster, namespace: str, store_name: str, fallback: str, environment: Mapping[str, str] = os.environ
) -> Door:
    """The store of a resource. STROP_S3_ENDPOINT replaces the policy's address (which may be reachable in the cluster
    alone), and brings the environment's keys, if it has any. Raises CliError with what is missing."""
    endpoint = environment.get(ENDPOINT)
    try:
        entry = _entry(policy_of(cluster, namespace, fallback), store_name)
    except (Forbidden, Missing):
        if not (endpoint and environment.get(ACCESS_KEY)):
            raise
        access = StoreAccess(
            endpoint=endpoint, region=environment.get("AWS_REGION", "us-east-1"), records_uri="s3://strop-records"
        )
        return _opened(access, EnvironmentCredentials(environment), "the environment's keys")
    access = entry.access(namespace)
    if endpoint:
        access = access.model_copy(update={"endpoint": endpoint})
    if endpoint and environment.get(ACCESS_KEY):
        return _opened(access, EnvironmentCredentials(environment), "the environment's keys")
    try:
        keys = _secret(cluster, namespace, entry)
    except (Forbidden, Missing) as refused:
        if environment.get(ACCESS_KEY):
            return _opened(access, EnvironmentCredentials(environment), "the environment's keys")
        mend = f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of your own, or: {refused.mend}"
        raise CliError(f"no keys for the store: {refused.message}", mend=mend.removesuffix(", or: ")) from None
    return _opened(access, Fixed(keys), f"Secret {entry.credentials_secret_name}")


def _opened(access: StoreAccess, keys: EnvironmentCredentials | Fixed, how: str) -> Door:
    return Door(S3Store(access, keys, HASTY), access, how)


def _entry(policy: OptimizationPolicySpec, name: str) -> Store:
    for store in policy.stores:
        if store.name == name:
            return store
    raise CliError(f"the policy has no store {name} any more", mend="ask who keeps the policy")


def _secret(cluster: Cluster, namespace: str, entry: Store) -> Credentials:
    data = cluster.get(SECRETS, entry.credentials_secret_name, namespace).get("data") or {}
    values = {name: base64.b64decode(value).decode().strip() for name, value in data.items()}
    if not values.get("accessKey") or not values.get("secretKey"):
        words = f"Secret {entry.credentials_secret_name} has no accessKey and secretKey"
        raise Missing(words, mend="have an admin put them into it")
    return Credentials(values["accessKey"], values["secretKey"], values.get("sessionToken") or None)


def unreached(failed: StoreFailed, door: Door, uri: str) -> CliError:
    """A store that does not answer, where the object lies, and what makes one within the cluster reachable."""
    mend = (
        f"if {door.access.endpoint} is inside the cluster: kubectl port-forward to it, and set {ENDPOINT} to the "
        f"forwarded address; or fetch {uri} by other means"
    )
    return CliError(str(failed), mend=mend, code=12)


def not_there(uri: str, door: Door) -> UnusableInput:
    """An object that a status names and the store does not have."""
    return UnusableInput(f"{uri} is not in the store (asked with {door.how})", mend="it may have been removed since")
