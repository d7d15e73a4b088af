"""Garbage collection of records and blobs: what no recent run needs goes, what is young or being written stays."""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from strop_job.records import RECORD_LIMIT_BYTES, Records
from strop_job.store.digests import PREFIX
from strop_job.store.objects import ObjectInfo, ObjectMissing, join
from strop_job.store.parallel import in_parallel

GUARD = timedelta(hours=24)
"""Nothing younger is ever swept: longer than a stage may take from its first blob to its record, and more than
`records.REFRESH_AFTER`, after which a blob is uploaded anew instead of relied on."""
RUN_LIMIT_BYTES = 4 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """What was removed, or would be."""

    records: int = 0
    blobs: int = 0
    runs: int = 0
    size_bytes: int = 0
    kept_records: int = 0
    kept_blobs: int = 0


def collect(records: Records, keep_days: float, *, dry_run: bool = False, now: datetime | None = None) -> Swept:
    """Remove records that no run of the last `keep_days` used, then blobs that no remaining record names.

    A record is kept if it is younger than that, or a run that is younger noted it (`Records.remember_run`). Whatever
    is younger than `GUARD` is kept in any case. Should a run need something in the very moment it goes, it finds the
    record lost and makes it again. Raises StoreFailed; repeating goes on where it ended.
    """
    moment = now or datetime.now(UTC)
    horizon = moment - max(timedelta(days=keep_days), GUARD)
    old_runs, needed = _runs(records, horizon)
    old, kept = _records(records, horizon, needed)
    swept_records = _sweep(records, old, horizon, dry_run)
    named = set(_blobs_named(records, kept))
    blobs = list(records.store.list(join(records.prefix_uri, "blobs")))
    unnamed = [b for b in blobs if PREFIX + _stem(b) not in named]
    swept_blobs = _sweep(records, unnamed, moment - GUARD, dry_run)
    swept_runs = _sweep(records, old_runs, horizon, dry_run)
    return Swept(
        records=len(swept_records),
        blobs=len(swept_blobs),
        runs=len(swept_runs),
        size_bytes=sum(o.size_bytes for o in (*swept_records, *swept_blobs, *swept_runs)),
        kept_records=len(kept) + len(old) - len(swept_records),
        kept_blobs=len(blobs) - len(swept_blobs),
    )


def _runs(records: Records, horizon: datetime) -> tuple[list[ObjectInfo], set[str]]:
    """Runs that were last seen before the horizon, and the keys that the others need."""
    found = list(records.store.list(join(records.prefix_uri, "runs")))
    recent = [run for run in found if run.modified_at >= horizon]
    keys = in_parallel(lambda run: _keys_of(records, run), recent)
    return [run for run in found if run.modified_at < horizon], {key for some in keys for key in some}


def _keys_of(records: Records, run: ObjectInfo) -> Iterable[str]:
    try:
        document = json.loads(records.store.read(run.uri, RUN_LIMIT_BYTES))
        return [str(key) for key in document["records"]]
    except ObjectMissing:
        return []
    except (ValueError, KeyError, TypeError):
        log.warning("%s cannot be read and keeps nothing", run.uri)
        return []


def _records(records: Records, horizon: datetime, needed: set[str]) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
    """Records that may go, and those that stay."""
    old: list[ObjectInfo] = []
    kept: list[ObjectInfo] = []
    for record in records.store.list(join(records.prefix_uri, "records")):
        (kept if record.modified_at >= horizon or _stem(record) in needed else old).append(record)
    return old, kept


def _blobs_named(records: Records, kept: Iterable[ObjectInfo]) -> Iterator[str]:
    """Everything that looks like a digest in the records that stay, also in those this release cannot read."""
    for found in in_parallel(lambda info: _digests_in(records, info), kept):
        yield from found


def _digests_in(records: Records, record: ObjectInfo) -> set[str]:
    try:
        data = records.store.read(record.uri, RECORD_LIMIT_BYTES)
    except ObjectMissing:
        return set()
    return {digest.decode() for digest in re.findall(rb"sha256:[0-9a-f]{64}", data)}


def _sweep(records: Records, found: Iterable[ObjectInfo], older_than: datetime, dry_run: bool) -> list[ObjectInfo]:
    """Remove what is still there and still old, looking again right before."""

    def sweep(seen: ObjectInfo) -> ObjectInfo | None:
        again = records.store.stat(seen.uri)
        if again is None or again.modified_at >= older_than:
            return None
        if not dry_run:
            records.store.delete(seen.uri)
        return again

    return [gone for gone in in_parallel(sweep, found) if gone is not None]


def _stem(info: ObjectInfo) -> str:
    return PurePosixPath(info.uri).stem
