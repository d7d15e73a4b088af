"""Objects in an S3-compatible store, through minio: streamed, retried, conditional."""

import base64
import hashlib
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import Credentials as MinioCredentials
from minio.error import S3Error

from strop_api.result import StoreAccess
from strop_job.errors import InvalidInput
from strop_job.store.credentials import CredentialSource
from strop_job.store.digests import PREFIX, bytes_digest, file_digest
from strop_job.store.faults import LIBRARY_ERRORS, Fault, Refused, fault
from strop_job.store.objects import (
    CHUNK_BYTES,
    Location,
    ObjectInfo,
    ObjectMissing,
    disk_full_is_named,
    parse,
    parse_object,
)

T = TypeVar("T")

# At DEBUG it prints whole URLs, and a presigned one carries a signature and the session token.
logging.getLogger("urllib3.connectionpool").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Patience:
    """How long a store may misbehave before the run is given up, and how large uploads are cut."""

    attempts: int = 5
    """Tries of a whole operation."""
    backoff_seconds: float = 0.5
    """Before the second try; doubles each time, with jitter."""
    request_retries: int = 3
    """Further tries of a single request within one of the operation."""
    request_backoff_seconds: float = 0.2
    connect_seconds: float = 5.0
    read_seconds: float = 120.0
    """Longest silence in an answer."""
    part_bytes: int = 16 << 20
    parallel_parts: int = 4
    """A large upload holds about `part_bytes * (parallel_parts + 1)` in memory."""


class S3Store:
    """An ObjectStore behind an S3 endpoint."""

    def __init__(self, access: StoreAccess, credentials: CredentialSource, patience: Patience = Patience()) -> None:
        address = urlsplit(access.endpoint)
        if address.scheme not in ("http", "https") or address.username or address.path.strip("/"):
            raise InvalidInput("the store's endpoint is not http(s)://host[:port]", mend="correct stores[].endpoint")
        self.patience = patience
        self._endpoint = f"{address.scheme}://{address.netloc}"
        self._http = _pool(access, patience)
        self._client = Minio(
            endpoint=address.netloc,
            secure=address.scheme == "https",
            region=access.region,
            credentials=_Provider(credentials),
            http_client=self._http,
        )
        if access.path_style:
            self._client.disable_virtual_style_endpoint()
        else:
            self._client.enable_virtual_style_endpoint()

    def stat(self, uri: str, *, field: str | None = None) -> ObjectInfo | None:
        """The object, or None if there is none (or no such bucket)."""
        location = parse_object(uri, field=field)
        try:
            found = self._patiently(location, field, lambda: self._head(location))
        except ObjectMissing:
            return None
        return _info(location, found)

    def list(self, prefix_uri: str, *, field: str | None = None) -> Iterator[ObjectInfo]:
        """Every object below the folder, sorted by key; resumed where it broke off."""
        location = parse(prefix_uri, field=field)
        last = ""
        while True:
            page = self._patiently(location, field, lambda after=last: self._page(location, after))  # type: ignore[misc]
            for found in page:
                if not found.object_name.endswith("/"):  # a marker some tools leave for an empty folder
                    yield _info(Location(location.bucket, found.object_name), found)
            if len(page) < _PAGE:
                return
            last = page[-1].object_name

    def download(self, uri: str, path: Path, *, field: str | None = None) -> str:
        """Stream the object into a file that appears only when it is whole; returns its `sha256:…`."""
        part = path.with_name(f".{path.name}.part")
        try:
            with disk_full_is_named(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as sink:
                    digest = self._stream(parse_object(uri, field=field), sink, field)
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return digest

    def digest(self, uri: str, *, field: str | None = None) -> str:
        """`sha256:…` of the object's content, read through but kept nowhere."""
        return self._stream(parse_object(uri, field=field), None, field)

    def read(self, uri: str, limit_bytes: int, *, field: str | None = None) -> bytes:
        """A small object whole."""
        location = parse_object(uri, field=field)
        data = self._patiently(location, field, lambda: self._read(location, limit_bytes + 1))
        if len(data) > limit_bytes:
            raise InvalidInput(f"{uri} is larger than {limit_bytes} bytes", field=field)
        return data

    def upload(self, uri: str, path: Path, *, field: str | None = None) -> None:
        """Make or overwrite the object with the file's content: in parallel parts, committed at once."""
        location = parse_object(uri, field=field)

        def attempt() -> None:
            with path.open("rb") as file:
                self._client.put_object(
                    bucket_name=location.bucket,
                    object_name=location.key,
                    data=file,
                    length=path.stat().st_size,
                    part_size=self.patience.part_bytes,
                    num_parallel_uploads=self.patience.parallel_parts,
                )

        self._patiently(location, field, attempt)

    def create(self, uri: str, data: bytes | Path, *, field: str | None = None) -> bool:
        """Make the object unless there is one; at most 5 GiB."""
        return self._conditionally(parse_object(uri, field=field), data, {"If-None-Match": "*"}, field)

    def replace(self, uri: str, data: bytes, etag: str | None, *, field: str | None = None) -> bool:
        """Overwrite the object if it still has this etag; None: it must not exist."""
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        return self._conditionally(parse_object(uri, field=field), data, condition, field)

    def delete(self, uri: str, *, field: str | None = None) -> None:
        """Remove the object."""
        location = parse_object(uri, field=field)

        def attempt() -> None:
            self._client.remove_object(bucket_name=location.bucket, object_name=location.key)

        self._patiently(location, field, attempt)

    def _patiently(self, location: Location, field: str | None, operation: Callable[[], T]) -> T:
        """Do it, again while that may help; what is raised in the end is a StropError and quotes no library."""
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return operation()
            except (*LIBRARY_ERRORS, Refused) as error:
                trouble = fault(error, location, self._endpoint, field)
            self._pause_or_raise(trouble, attempt)
        raise AssertionError("unreachable")

    def _pause_or_raise(self, trouble: Fault, attempt: int) -> None:
        if not trouble.transient or attempt >= self.patience.attempts:
            raise trouble.error
        time.sleep(self.patience.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311

    def _head(self, location: Location) -> Any:
        """The object's metadata. A refused HEAD has no body, so a GET is asked why."""
        try:
            return self._client.stat_object(bucket_name=location.bucket, object_name=location.key)
        except S3Error as error:
            if error.code not in ("NoSuchKey", "NoSuchBucket"):
                self._read(location, 1)
            raise

    def _page(self, location: Location, after: str) -> Sequence[Any]:
        prefix = f"{location.key}/" if location.key else ""
        found = self._client.list_objects(
            bucket_name=location.bucket, prefix=prefix, recursive=True, start_after=after or None
        )
        return tuple(islice(found, _PAGE))

    def _read(self, location: Location, amount: int) -> bytes:
        with self._opened(location) as answer:
            data: bytes = answer.read(amount)
            return data

    @contextmanager
    def _opened(self, location: Location, offset: int = 0, etag: str | None = None) -> Iterator[Any]:
        answer = self._client.get_object(
            bucket_name=location.bucket,
            object_name=location.key,
            offset=offset,
            request_headers={"If-Match": etag} if etag else None,
        )
        try:
            yield answer
        finally:
            answer.close()
            answer.release_conn()

    def _stream(self, location: Location, sink: BinaryIO | None, field: str | None) -> str:
        """Read the whole object; after a break, go on where it broke off, as long as it is the same object."""
        running, done, etag, attempt = hashlib.sha256(), 0, None, 0
        while True:
            attempt, before = attempt + 1, done
            try:
                with self._opened(location, done, etag) as answer:
                    etag = answer.headers.get("etag")
                    for chunk in answer.stream(CHUNK_BYTES):
                        running.update(chunk)
                        done += len(chunk)
                        if sink is not None:
                            sink.write(chunk)
                return PREFIX + running.hexdigest()
            except LIBRARY_ERRORS as error:
                trouble = fault(error, location, self._endpoint, field)
            attempt = attempt if done == before else 1
            self._pause_or_raise(trouble, attempt)

    def _conditionally(
        self, location: Location, data: bytes | Path, condition: dict[str, str], field: str | None
    ) -> bool:
        """PUT under a condition. minio has no way to say it, so its presigned URL is used.

        When an answer was lost and the next says that the condition fails, it may be our own object that is in the
        way: then its content decides.
        """
        headers = {**condition, **_body_headers(data)}
        tries = 0

        def attempt() -> bool:
            nonlocal tries
            tries += 1
            return self._put(location, data, headers)

        won = self._patiently(location, field, attempt)
        if won or tries == 1:
            return won
        ours = bytes_digest(data) if isinstance(data, bytes) else file_digest(data)
        try:
            return self.digest(location.uri, field=field) == ours
        except ObjectMissing:
            return False

    def _put(self, location: Location, data: bytes | Path, headers: Mapping[str, str]) -> bool:
        url = self._client.get_presigned_url(
            method="PUT", bucket_name=location.bucket, object_name=location.key, expires=timedelta(hours=6)
        )
        with _opened_body(data) as body:
            answer = self._http.urlopen("PUT", url, body=body, headers=dict(headers), retries=False)
        if answer.status == 412 or (answer.status == 404 and "If-Match" in headers and b"NoSuchKey" in answer.data):
            return False
        if answer.status not in (200, 201, 204):
            raise Refused(answer.status, answer.data)
        return True


_PAGE = 1000
"""Keys listed by one request."""


class _Provider:
    """What minio asks for credentials."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    def retrieve(self) -> MinioCredentials:
        keys = self._source.current()
        return MinioCredentials(keys.access_key, keys.secret_key, keys.session_token)


def _pool(access: StoreAccess, patience: Patience) -> urllib3.PoolManager:
    """Connections to the store. A CA bundle replaces the public authorities; a proxy is never used."""
    options: dict[str, Any] = {}
    if access.ca_bundle:
        try:
            options["ssl_context"] = ssl.create_default_context(cadata=access.ca_bundle)
        except ssl.SSLError:
            raise InvalidInput(
                "the store's caBundle holds no PEM certificate", mend="correct stores[].caBundle"
            ) from None
    retry = urllib3.Retry(
        total=patience.request_retries,
        redirect=0,
        backoff_factor=patience.request_backoff_seconds,
        status_forcelist=[429, 500, 502, 503, 504],
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    timeout = urllib3.Timeout(connect=patience.connect_seconds, read=patience.read_seconds)
    return urllib3.PoolManager(maxsize=32, timeout=timeout, retries=retry, blocksize=CHUNK_BYTES, **options)


def _info(location: Location, found: Any) -> ObjectInfo:
    return ObjectInfo(location.uri, found.size, found.etag.strip('"'), found.last_modified)


def _opened_body(data: bytes | Path) -> AbstractContextManager[BytesIO | BufferedReader]:
    return BytesIO(data) if isinstance(data, bytes) else data.open("rb")


def _body_headers(data: bytes | Path) -> dict[str, str]:
    """Length, and an MD5 so that the store refuses a body damaged on the way (a presigned PUT signs no body)."""
    with _opened_body(data) as body:
        summary = hashlib.file_digest(body, lambda: hashlib.md5(usedforsecurity=False))
        length = body.seek(0, 2)
    encoded = base64.b64encode(summary.digest()).decode()
    return {"Content-Length": str(length), "Content-MD5": encoded, "Content-Type": "application/octet-stream"}
