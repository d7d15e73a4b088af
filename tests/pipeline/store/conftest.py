"""Both stores under the same tests: a folder, and a real MinIO server."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from minio import Minio

from strop_api.result import StoreAccess
from strop_job.errors import StropError
from strop_job.store.credentials import EnvironmentCredentials
from strop_job.store.local import LocalStore
from strop_job.store.objects import ObjectStore
from strop_job.store.s3 import Patience, S3Store

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cluster import MinioServer

BRISK = Patience(
    attempts=3,
    backoff_seconds=0.05,
    request_retries=1,
    request_backoff_seconds=0.01,
    connect_seconds=2,
    read_seconds=5,
    part_bytes=5 << 20,
)
"""Gives up soon, and cuts files of a few MiB into parts."""


def access(endpoint: str, ca_bundle: str | None = None) -> StoreAccess:
    return StoreAccess(endpoint=endpoint, region="us-east-1", ca_bundle=ca_bundle, records_uri="s3://records/ns")


def keys(user: str, password: str) -> EnvironmentCredentials:
    return EnvironmentCredentials({"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": password})


def s3(server: MinioServer, *, endpoint: str = "", patience: Patience = BRISK) -> S3Store:
    """A store with root's keys, perhaps by way of another address."""
    return S3Store(access(endpoint or server.url), keys(server.user, server.password), patience)


def make_bucket(server: MinioServer) -> str:
    name = f"b-{uuid.uuid4().hex[:12]}"
    Minio(server.endpoint, access_key=server.user, secret_key=server.password, secure=False).make_bucket(
        bucket_name=name
    )
    return name


@dataclass(frozen=True)
class Place:
    """A store and an empty bucket in it."""

    store: ObjectStore
    uri: str
    damage: Callable[[str, bytes], None]
    """Overwrites an object behind the store's back."""


@pytest.fixture(scope="session")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def local_place(tmp_path: Path) -> Place:
    root = tmp_path / "store"
    return Place(LocalStore(root), "s3://bucket", lambda uri, data: _write(root / uri.removeprefix("s3://"), data))


@pytest.fixture
def s3_place(minio: MinioServer, tmp_path: Path) -> Place:
    store = s3(minio)

    def damage(uri: str, data: bytes) -> None:
        path = tmp_path / "damage"
        path.write_bytes(data)
        store.upload(uri, path)

    return Place(store, f"s3://{make_bucket(minio)}", damage)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.minio)])
def place(request: pytest.FixtureRequest) -> Place:
    """The same test body runs on both."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(24 << 20))
    return path


def everything(store: ObjectStore, uri: str, folder: Path) -> dict[str, Callable[[], object]]:
    """Every method, as a call on one object."""
    (folder / "file").write_bytes(b"x")
    return {
        "stat": lambda: store.stat(uri, field="spec.x"),
        "list": lambda: list(store.list(uri, field="spec.x")),
        "read": lambda: store.read(uri, 10, field="spec.x"),
        "digest": lambda: store.digest(uri, field="spec.x"),
        "download": lambda: store.download(uri, folder / "down", field="spec.x"),
        "upload": lambda: store.upload(uri, folder / "file", field="spec.x"),
        "create": lambda: store.create(uri, b"x", field="spec.x"),
        "replace": lambda: store.replace(uri, b"x", None, field="spec.x"),
        "delete": lambda: store.delete(uri, field="spec.x"),
    }


def failures(calls: dict[str, Callable[[], object]]) -> dict[str, StropError]:
    """What each call raised; a call that succeeds is left out."""
    found = {}
    for name, call in calls.items():
        try:
            call()
        except StropError as error:
            found[name] = error
    return found


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
