"""What can go wrong with an S3 endpoint, in words for people, and whether trying again may help.

No message repeats what a library said of a URL: a presigned URL carries a signature.
"""

import re
from dataclasses import dataclass

import urllib3.exceptions as transport
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from strop_job.errors import InvalidInput, StoreFailed, StropError
from strop_job.store.objects import Location, ObjectMissing

LIBRARY_ERRORS = (MinioException, transport.HTTPError)
"""Everything minio and urllib3 raise."""


@dataclass(frozen=True)
class Refusal:
    """One error code of S3: what it says, what would mend it. `{bucket}` and `{uri}` are filled in."""

    message: str
    mend: str
    error: type[StropError] = StoreFailed


_CREDENTIALS = Refusal(
    "the store does not accept the credentials", "correct accessKey, secretKey or sessionToken in the store's Secret"
)
REFUSALS: dict[str, Refusal] = {
    "NoSuchKey": Refusal("{uri} does not exist", "check the uri", ObjectMissing),
    "NoSuchBucket": Refusal("bucket {bucket} does not exist", "create it, or correct the uri", ObjectMissing),
    "PreconditionFailed": Refusal("{uri} was replaced while it was read", "leave it alone during a run"),
    "AccessDenied": Refusal(
        "access to {uri} is denied", "allow the store's credentials to list, read and write in bucket {bucket}"
    ),
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidTokenId": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "RequestTimeTooSkewed": Refusal("this machine's clock is not the store's", "set the clock"),
    "EntityTooLarge": Refusal("{uri} would be larger than the store takes", "make it smaller", InvalidInput),
    "InvalidBucketName": Refusal("{bucket} is not the name of a bucket", "correct the uri", InvalidInput),
    "XMinioStorageFull": Refusal("the store is full", "give the store more space"),
    "QuotaExceeded": Refusal("bucket {bucket} has reached its quota", "raise the quota or delete something"),
    "XMinioAdminBucketQuotaExceeded": Refusal(
        "bucket {bucket} has reached its quota", "raise the quota or delete something"
    ),
    "NotImplemented": Refusal(
        "the store does not know conditional writes", "use a store with If-None-Match and If-Match"
    ),
}
_TRANSIENT = frozenset(
    [
        "InternalError",
        "SlowDown",
        "ServiceUnavailable",
        "RequestTimeout",
        "ConditionalRequestConflict",
        "OperationAborted",
        "BadDigest",
        "IncompleteBody",
        "NoSuchUpload",
        "InvalidPart",
    ]
)
"""Codes below 500 (and some above) for which the whole operation, begun anew, may succeed."""


@dataclass(frozen=True)
class Fault:
    """A failed request: the error to raise, and whether trying again may help."""

    error: StropError
    transient: bool


class Refused(Exception):  # noqa: N818 - carries an answer, is never shown
    """An answer to a request of our own (not through minio) that is no success."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        found = re.search(rb"<Code>(\w{1,64})</Code>", body)
        self.status = status
        self.code = found[1].decode() if found else ""


def fault(error: Exception, location: Location, endpoint: str, field: str | None) -> Fault:
    """Explain what minio, urllib3 or our own request raised."""
    if isinstance(error, S3Error):
        return _refused(error.code or "", error.response.status, location, field)
    if isinstance(error, Refused):
        return _refused(error.code, error.status, location, field)
    if isinstance(error, InvalidResponseError | ServerError):
        return _no_s3(error, endpoint, location, field)
    return _no_answer(error, endpoint, field)


def _refused(code: str, status: int, location: Location, field: str | None) -> Fault:
    refusal = REFUSALS.get(code or {403: "AccessDenied", 404: "NoSuchKey"}.get(status, ""))
    if refusal is not None:
        message, mend = (text.format(bucket=location.bucket, uri=location.uri) for text in
                         (refusal.message, refusal.mend))  # fmt: skip
        return Fault(refusal.error(message, field=field, mend=mend), False)
    said = f"{status} {code}".strip()
    transient = status >= 500 or status == 429 or code in _TRANSIENT
    return Fault(StoreFailed(f"the store answered {said} for {location.uri}", field=field), transient)


def _no_s3(error: InvalidResponseError | ServerError, endpoint: str, location: Location, field: str | None) -> Fault:
    status = int(getattr(error, "status_code", 0) or getattr(error, "_code", 0))
    message = f"{endpoint} answered {status} for {location.uri}, and not as S3 does"
    mend = "check the policy's stores[].endpoint"
    return Fault(StoreFailed(message, field=field, mend=mend), status >= 500 or status == 429)


def _no_answer(error: Exception, endpoint: str, field: str | None) -> Fault:
    cause = error.reason if isinstance(error, transport.MaxRetryError) and error.reason else error
    if isinstance(cause, transport.SSLError):
        message = f"the certificate of {endpoint} is not trusted, or it does not speak TLS"
        return Fault(StoreFailed(message, field=field, mend="check endpoint and caBundle in the policy's store"), False)
    message = f"no whole answer from {endpoint} ({type(cause).__name__})"
    return Fault(StoreFailed(message, field=field, mend="check that the store runs and can be reached"), True)
