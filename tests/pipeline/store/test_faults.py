"""What goes wrong with real stores: networks, servers, rights. Never a lie, never a secret."""

import contextlib
import http.server
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from minio.credentials import AssumeRoleProvider

from cluster import MinioServer
from cluster.minio_accounts import add_user, read_only
from strop_job.errors import InvalidInput, StoreFailed, StropError
from strop_job.publish import publish
from strop_job.records import Records
from strop_job.stages import Artifact, ArtifactKind
from strop_job.store.credentials import Credentials, EnvironmentCredentials, FolderCredentials
from strop_job.store.digests import bytes_digest
from strop_job.store.objects import ObjectMissing
from strop_job.store.s3 import S3Store

from .conftest import BRISK, access, everything, failures, keys, make_bucket, s3
from .wire import Wire, answer, wire_to

pytestmark = pytest.mark.minio
SECRET = "wrong-but-still-secret-0123456789"
KEY = "a" * 64


@pytest.fixture
def bucket(minio: MinioServer) -> str:
    return f"s3://{make_bucket(minio)}"


@pytest.fixture
def wire(minio: MinioServer) -> Iterator[Wire]:
    with wire_to(minio.endpoint) as found:
        yield found


def test_wrong_credentials_are_named_by_every_method_and_never_shown(
    minio: MinioServer, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else people would look for a missing object, or read a secret in a status."""
    caplog.set_level(logging.DEBUG)
    for user, secret in (("no-such-user-0815", SECRET), (minio.user, SECRET)):
        store = S3Store(access(minio.url), keys(user, secret), BRISK)
        found = failures(everything(store, f"{bucket}/key", tmp_path))
        assert len(found) == 9
        for error in found.values():
            assert isinstance(error, StoreFailed)
            assert error.field == "spec.x"
            assert "does not accept the credentials" in error.message
            told = "".join(traceback.format_exception(error)) + repr(error) + repr(store) + repr(keys(user, secret))
            assert SECRET not in told
            assert "X-Amz" not in told
    assert SECRET not in caplog.text
    assert "X-Amz" not in caplog.text


def test_a_missing_bucket_is_named(minio: MinioServer, tmp_path: Path) -> None:
    """Else a typo in a bucket's name would look like an empty folder, or be retried for an hour."""
    found = failures(everything(s3(minio), "s3://no-such-bucket/key", tmp_path))
    assert set(found) == {"list", "read", "digest", "download", "upload", "create", "replace", "delete"}
    for error in found.values():
        assert isinstance(error, ObjectMissing)
        assert error.field == "spec.x"
        assert "bucket no-such-bucket does not exist" in error.message


def test_read_only_credentials_use_records_and_cannot_write_them(
    minio: MinioServer, bucket: str, tmp_path: Path
) -> None:
    """Else missing rights would end in something unforeseen after hours of work."""
    name = bucket.removeprefix("s3://")
    add_user(minio, f"reader-{name}", "reader-secret-1", read_only(name))
    reader = S3Store(access(minio.url), keys(f"reader-{name}", "reader-secret-1"), BRISK)
    (tmp_path / "model.onnx").write_bytes(b"x")
    made = Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",))
    record = Records(s3(minio), f"{bucket}/ns").commit(KEY, made, 1.0)
    records = Records(reader, f"{bucket}/ns")
    assert records.find(KEY) == record
    assert records.fetch(record, tmp_path / "in").entry.read_bytes() == b"x"
    (tmp_path / "model.onnx").write_bytes(b"new")
    with pytest.raises(StoreFailed, match=rf"denied.*bucket {name}"):
        records.commit("b" * 64, made, 1.0)
    with pytest.raises(StoreFailed) as caught:
        publish(reader, f"{bucket}/out", "r1", "uid", {"model.onnx": tmp_path / "model.onnx"}, {})
    assert caught.value.field == "spec.output.uri"


def test_credentials_from_a_secret_are_taken_up_when_they_rotate(
    minio: MinioServer, bucket: str, tmp_path: Path
) -> None:
    """Else a run would fail in its last hour, when its session token has expired."""
    secret = tmp_path / "credentials"
    secret.mkdir()
    store = S3Store(access(minio.url), FolderCredentials(secret), BRISK)
    with pytest.raises(InvalidInput, match="has no accessKey"):
        store.stat(f"{bucket}/key")
    (secret / "accessKey").write_text("expired\n")
    (secret / "secretKey").write_text(f"{SECRET}\n")
    with pytest.raises(StoreFailed, match="credentials"):
        store.stat(f"{bucket}/key")
    role = AssumeRoleProvider(
        sts_endpoint=minio.url, access_key=minio.user, secret_key=minio.password, duration_seconds=900
    ).retrieve()
    for name, text in (
        ("accessKey", role.access_key), ("secretKey", role.secret_key), ("sessionToken", role.session_token)
    ):  # fmt: skip
        (secret / name).write_text(f"{text}\n")
    calls = everything(store, f"{bucket}/key", tmp_path)
    assert calls["create"]()
    assert failures(calls) == {}


def test_credentials_never_appear_in_a_repr() -> None:
    """Else a log line with a dataclass in it would leak them."""
    source = EnvironmentCredentials(
        {"AWS_ACCESS_KEY_ID": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET}
    )
    assert source.current() == Credentials(SECRET, SECRET, SECRET)
    assert SECRET not in repr(source) + repr(source.current())


def test_a_download_that_breaks_off_goes_on_where_it_broke(
    minio: MinioServer, bucket: str, wire: Wire, big: Path, tmp_path: Path
) -> None:
    """Else a truncated model would be used, or a flaky network would download the beginning for ever."""
    s3(minio).upload(f"{bucket}/big", big)
    wire.faults = [10 << 20, 8 << 20, 300]
    digest = s3(minio, endpoint=wire.endpoint).download(f"{bucket}/big", tmp_path / "down")
    assert digest == bytes_digest(big.read_bytes()) == bytes_digest((tmp_path / "down").read_bytes())
    assert [b"bytes=" in head for head in wire.heads] == [False, True, True, True]


def test_a_download_that_never_ends_whole_leaves_no_file(
    minio: MinioServer, bucket: str, wire: Wire, big: Path, tmp_path: Path
) -> None:
    """Else half a file would pass for a whole one."""
    s3(minio).upload(f"{bucket}/big", big)
    wire.faults, wire.always = [10 << 20], 300
    with pytest.raises(StoreFailed, match="no whole answer"):
        s3(minio, endpoint=wire.endpoint).download(f"{bucket}/big", tmp_path / "down" / "big")
    assert list((tmp_path / "down").iterdir()) == []


def test_an_object_replaced_in_the_middle_of_a_download_is_not_mixed(
    minio: MinioServer, bucket: str, wire: Wire, big: Path, tmp_path: Path
) -> None:
    """Else the file would be the beginning of one model and the end of another."""
    s3(minio).upload(f"{bucket}/big", big)
    wire.faults = [10 << 20]
    slow = s3(minio, endpoint=wire.endpoint)
    original = slow._opened

    @contextlib.contextmanager
    def replaced_before_the_second(location: object, offset: int = 0, etag: str | None = None) -> Iterator[object]:
        if offset:
            big.write_bytes(os.urandom(24 << 20))
            s3(minio).upload(f"{bucket}/big", big)
        with original(location, offset, etag) as stream:  # type: ignore[arg-type]
            yield stream

    slow._opened = replaced_before_the_second  # type: ignore[method-assign]
    with pytest.raises(StoreFailed, match="was replaced while it was read"):
        slow.download(f"{bucket}/big", tmp_path / "down")


def test_an_answer_that_was_lost_does_not_lose_the_race_against_oneself(
    minio: MinioServer, bucket: str, wire: Wire
) -> None:
    """Else a worker would take its own record, or its own pointer, for somebody else's."""
    store = s3(minio, endpoint=wire.endpoint)
    wire.faults = [0]
    assert store.create(f"{bucket}/key", b"ours")
    seen = store.stat(f"{bucket}/key")
    assert seen is not None
    wire.faults = [0]
    fresh = s3(minio, endpoint=wire.endpoint)
    assert fresh.replace(f"{bucket}/key", b"newer", seen.etag)
    assert s3(minio).read(f"{bucket}/key", 10) == b"newer"
    wire.faults = [0]
    assert not s3(minio, endpoint=wire.endpoint).create(f"{bucket}/key", b"another's")


@pytest.mark.parametrize("said", [answer("503 Slow Down", "SlowDown", ["Retry-After: 3600"]),
                                  answer("500 Oops", "InternalError"), answer("502 Bad Gateway", "")])  # fmt: skip
def test_a_store_that_is_busy_for_a_while_is_asked_again(
    minio: MinioServer, bucket: str, wire: Wire, tmp_path: Path, said: bytes
) -> None:
    """Else a moment's overload would cost a run, or one header would make it wait for an hour."""
    store = s3(minio, endpoint=wire.endpoint)
    for name, call in everything(store, f"{bucket}/key", tmp_path).items():
        if name in ("stat", "read", "digest", "download"):
            s3(minio).upload(f"{bucket}/key", tmp_path / "file")
        store = s3(minio, endpoint=wire.endpoint)
        wire.faults = [said]
        call()
        wire.faults = []


def test_a_store_that_stays_away_is_reported_after_a_while(bucket: str, tmp_path: Path) -> None:
    """Else a run would hang for ever, or end as if the input were wrong."""
    store = S3Store(access("http://127.0.0.1:9"), keys("user", SECRET), BRISK)
    found = failures(everything(store, f"{bucket}/key", tmp_path))
    assert len(found) == 9
    for error in found.values():
        assert isinstance(error, StoreFailed)
        assert "127.0.0.1:9" in error.message


def test_something_that_is_no_s3_is_named(bucket: str, tmp_path: Path) -> None:
    """Else the address of a console or of an ingress would look like an empty store."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = S3Store(access(f"http://127.0.0.1:{server.server_port}"), keys("user", SECRET), BRISK)
        found = failures(everything(store, f"{bucket}/key", tmp_path))
        server.shutdown()
    assert len(found) == 9
    assert all(isinstance(error, StoreFailed) for error in found.values())
    assert "not as S3 does" in found["read"].message


@pytest.mark.parametrize("endpoint", ["s3.example.com", "ftp://host", "http://user:secret@host", "http://host/path"])
def test_an_endpoint_that_cannot_be_used_is_refused_without_repeating_it(endpoint: str) -> None:
    """Else a password in a URL would be shown, or a path be dropped in silence."""
    with pytest.raises(InvalidInput, match="endpoint") as caught:
        S3Store(access(endpoint), keys("user", SECRET))
    assert endpoint not in str(caught.value)


COMMIT = """
import sys
from pathlib import Path
from strop_api.result import StoreAccess
from strop_job.records import Records
from strop_job.stages import Artifact, ArtifactKind
from strop_job.store.credentials import EnvironmentCredentials
from strop_job.store.s3 import S3Store
endpoint, prefix, file = sys.argv[1:]
store = S3Store(StoreAccess(endpoint=endpoint, region="us-east-1", records_uri=prefix), EnvironmentCredentials())
made = Artifact(ArtifactKind.ENGINE, Path(file).parent, (Path(file).name,))
Records(store, prefix).commit("a" * 64, made, 1.0)
"""


def test_a_worker_killed_in_the_middle_of_an_upload_leaves_nothing_half_done(
    minio: MinioServer, bucket: str, wire: Wire, big: Path
) -> None:
    """Else an eviction at the wrong moment would leave a record without its bytes."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": minio.user, "AWS_SECRET_ACCESS_KEY": minio.password}
    worker = subprocess.Popen([sys.executable, "-c", COMMIT, wire.endpoint, f"{bucket}/ns", big], env=environment)
    wire.wait_sent(8 << 20)
    worker.kill()
    worker.wait(10)
    assert list(s3(minio).list(bucket)) == []
    records = Records(s3(minio), f"{bucket}/ns")
    assert records.find(KEY) is None
    made = Artifact(ArtifactKind.ENGINE, big.parent, (big.name,))
    assert records.commit(KEY, made, 1.0) == records.find(KEY)


@pytest.fixture
def own_minio(tmp_path: Path) -> Iterator[MinioServer]:
    """A server that the test may kill."""
    with MinioServer(tmp_path / "minio") as server:
        yield server


def test_an_upload_survives_a_server_that_is_killed_and_comes_back(
    own_minio: MinioServer, big: Path, tmp_path: Path
) -> None:
    """Else every restart of a store would cost the runs that are writing."""
    uri = f"s3://{make_bucket(own_minio)}/big"
    with wire_to(own_minio.endpoint) as wire:
        store = s3(own_minio, endpoint=wire.endpoint, patience=replace(BRISK, attempts=10, backoff_seconds=0.2))
        uploading = threading.Thread(target=store.upload, args=(uri, big))
        uploading.start()
        wire.wait_sent(8 << 20)
        own_minio.kill()
        assert uploading.is_alive()
        own_minio.start()
        uploading.join(30)
    assert not uploading.is_alive()
    assert s3(own_minio).digest(uri) == bytes_digest(big.read_bytes())


def test_an_upload_to_a_server_that_stays_dead_leaves_nothing_half_done(own_minio: MinioServer, big: Path) -> None:
    """Else half an engine would lie there under its full name."""
    uri = f"s3://{make_bucket(own_minio)}/big"
    caught: list[StropError] = []

    def upload() -> None:
        try:
            store.upload(uri, big)
        except StropError as error:
            caught.append(error)

    with wire_to(own_minio.endpoint) as wire:
        store = s3(own_minio, endpoint=wire.endpoint)
        uploading = threading.Thread(target=upload)
        uploading.start()
        wire.wait_sent(8 << 20)
        own_minio.kill()
        uploading.join(60)
    assert [type(error) for error in caught] == [StoreFailed]
    own_minio.start()
    assert s3(own_minio).stat(uri) is None
    s3(own_minio).upload(uri, big)
    assert s3(own_minio).digest(uri) == bytes_digest(big.read_bytes())
