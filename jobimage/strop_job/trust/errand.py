"""The entry of an errand's Job: the request is carried out, the answer lies in the termination log."""

import logging
from dataclasses import dataclass
from pathlib import Path

from strop_api.errands import ErrandKind, ErrandRequest, ErrandResult
from strop_api.failures import ExitCode
from strop_api.result import TERMINATION_LIMIT_BYTES
from strop_job.outcome import diagnose, exit_code, redact
from strop_job.store.credentials import FolderCredentials
from strop_job.store.objects import ObjectStore
from strop_job.trust.cleanup import clean_up
from strop_job.trust.drift import drift

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where an errand finds what it needs."""

    request: Path
    termination_log: Path
    credentials: Path
    scratch: Path
    local_store: Path | None = None
    """A folder that stands for the object store."""


def run(place: Place) -> ExitCode:
    """Does the errand. Changes that were found are an answer and no failure; the store's failure can be tried again."""
    secrets: tuple[str, ...] = ()
    kind = ErrandKind.DRIFT
    try:
        request = ErrandRequest.model_validate_json(place.request.read_bytes())
        kind = request.errand
        store, secrets = _store(place, request)
        result, code = _carry_out(request, store, place.scratch), ExitCode.PUBLISHED
    except Exception as error:  # whatever it was, the operator hears of it
        trouble = diagnose(error, f"errand {kind}", secrets)
        log.warning("%s", redact(repr(error), secrets))
        words = trouble.message + (f" ({trouble.mend})" if trouble.mend else "")
        result, code = ErrandResult(errand=kind, done=False, message=words), exit_code(trouble.outcome)
    place.termination_log.write_bytes(encode(result))
    return code


def encode(result: ErrandResult) -> bytes:
    """The answer as JSON within the termination message's limit: of what does not fit, the message is cut."""
    data = _dump(result)
    while len(data) > TERMINATION_LIMIT_BYTES and result.message:
        result = result.model_copy(update={"message": result.message[: len(result.message) * 3 // 4]})
        data = _dump(result)
    return data


def _dump(result: ErrandResult) -> bytes:
    return result.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def _carry_out(request: ErrandRequest, store: ObjectStore, scratch: Path) -> ErrandResult:
    if request.errand is ErrandKind.CLEAN_UP:
        return clean_up(request, store)
    scratch.mkdir(parents=True, exist_ok=True)
    return drift(request, store, scratch)


def _store(place: Place, request: ErrandRequest) -> tuple[ObjectStore, tuple[str, ...]]:
    """The store, and the texts that must appear in no message."""
    if place.local_store is not None:
        from strop_job.store.local import LocalStore

        return LocalStore(place.local_store), ()
    from strop_job.store.s3 import S3Store

    source = FolderCredentials(place.credentials)
    keys = source.current()
    return S3Store(request.store, source), tuple(s for s in (keys.secret_key, keys.access_key, keys.session_token) if s)
