"""The object store that other tests stand on."""

import io
from collections.abc import Iterator

import pytest
from minio import Minio
from minio.error import S3Error
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from cluster import MinioServer

pytestmark = pytest.mark.minio


@pytest.fixture(scope="module")
def server() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


def client(server: MinioServer, user: str = "", password: str = "") -> Minio:
    impatient = PoolManager(timeout=Timeout(total=2), retries=False)
    secret = password or server.password
    return Minio(
        server.endpoint, access_key=user or server.user, secret_key=secret, secure=False, http_client=impatient
    )


def read(client: Minio, bucket: str, name: str) -> bytes:
    answer = client.get_object(bucket, name)
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def test_what_was_stored_survives_a_kill(server: MinioServer) -> None:
    """Tests that kill the store in the middle of a run expect it back on its address with its objects."""
    client(server).make_bucket("kept")
    client(server).put_object("kept", "name", io.BytesIO(b"content"), 7)
    server.kill()
    assert not server.running
    with pytest.raises(HTTPError):
        client(server).list_buckets()
    server.start()
    assert read(client(server), "kept", "name") == b"content"


def test_a_frozen_server_keeps_its_clients_waiting(server: MinioServer) -> None:
    """A store that hangs is not a store that is gone: only a timeout finds out."""
    server.freeze()
    try:
        with pytest.raises(HTTPError, match="timed out"):
            client(server).list_buckets()
    finally:
        server.thaw()
    client(server).list_buckets()


def test_a_user_may_do_only_what_its_policy_says(server: MinioServer) -> None:
    """Tests of missing rights would otherwise run as root and prove nothing."""
    from cluster.minio_accounts import add_user, read_only

    client(server).make_bucket("shared")
    client(server).put_object("shared", "name", io.BytesIO(b"content"), 7)
    add_user(server, "reader", "reader-secret", read_only("shared"))
    reader = client(server, "reader", "reader-secret")
    assert read(reader, "shared", "name") == b"content"
    with pytest.raises(S3Error, match="AccessDenied"):
        reader.put_object("shared", "other", io.BytesIO(b""), 0)
