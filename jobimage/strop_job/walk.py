"""Walking a plan: each stage's record is found, or the stage is done in an empty folder and its record committed.

Files are fetched only when a later stage that must run, the judgement or the publication reads them.
"""

import json
import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from strop_api.result import RunRequest
from strop_job.errors import StoreFailed
from strop_job.hardware import Hardware, this_machine
from strop_job.outcome import StageRow, now
from strop_job.plan import Plan
from strop_job.progress import Reporter, Tracker
from strop_job.records import MadeFrom, Record, RecordLost, Records, made_from
from strop_job.stages import Artifact, Stage, StageContext
from strop_job.store.checkpoints import StoredCheckpoints
from strop_job.store.objects import ObjectStore, join
from strop_job.store.shared import StoredCache

if TYPE_CHECKING:
    from strop_job.trust.signing import Signer

MEND_ATTEMPTS = 3
"""Times a record whose blobs turn out to be lost is made again within one run."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shop:
    """Where a run works and who listens."""

    store: ObjectStore
    records: Records
    scratch: Path
    reporter: Reporter
    hardware: Hardware = field(default_factory=this_machine)
    force_measure: bool = False
    """Take every measurement again, whatever the records hold."""
    secrets: tuple[str, ...] = ()
    """Texts that must not appear in any message."""
    signer: "Signer | None" = None
    """Signs what is published."""
    answer_published: bool = False
    """A run that was published already answers with its result. A lost result may be asked again on another machine,
    where the engine's bytes would differ from those that were published and never change."""


@dataclass(frozen=True)
class Done:
    """One stage of this run, found or made."""

    stage: Stage
    record: Record
    cached: bool
    seconds: float

    @property
    def row(self) -> StageRow:
        """As the report and the status list it."""
        return StageRow(self.stage.name, self.seconds, self.cached, self.record.digest, size_bytes(self.record))


def records_of(request: RunRequest, store: ObjectStore) -> Records:
    """The records of the request's namespace."""
    return Records(store, request.store.records_uri)


def size_bytes(record: Record) -> int:
    """Of all files of a record."""
    return sum(file.size_bytes for file in record.files)


def forecast(plan: Plan, records: Records, hardware: Hardware | None = None) -> tuple[tuple[Stage, Record | None], ...]:
    """Each stage with the record that would be used; what follows a stage without one is not known, so it has none."""
    fingerprint = fingerprint_of(plan, hardware or this_machine())
    found: dict[str, Record] = {}
    rows: list[tuple[Stage, Record | None]] = []
    for stage in plan.stages:
        record = None
        if all(need in found for need in stage.needs):
            origin = origin_of(plan, stage, found, fingerprint)
            record = records.find(origin.key, max_age_seconds=stage.max_age_seconds)
        if record is not None:
            found[stage.name] = record
        rows.append((stage, record))
    return tuple(rows)


def fingerprint_of(plan: Plan, hardware: Hardware) -> str:
    """What joins the keys of hardware-dependent stages."""
    return json.dumps(hardware.fingerprint(plan.target), sort_keys=True)


def origin_of(plan: Plan, stage: Stage, records: Mapping[str, Record], fingerprint: str) -> MadeFrom:
    """What decides the stage's bytes, given the records of what it needs."""
    digests = {need: records[need].digest for need in stage.needs}
    return made_from(stage, digests, plan.request.image, plan.request.spec.seed, fingerprint)


class Walk:
    """The state of one run: what is done, and where its files are."""

    def __init__(self, plan: Plan, shop: Shop, folder: Path) -> None:
        self.plan, self.shop, self.folder = plan, shop, folder
        self.tracker = Tracker(plan.stages, shop.reporter)
        self.done: dict[str, Done] = {}
        self.started_at = now()
        self.current = "start"
        self.adopted = False
        """The records are those of another attempt, perhaps on another machine."""
        self._artifacts: dict[str, Artifact] = {}
        self._fingerprint = fingerprint_of(plan, shop.hardware)
        self._cache = StoredCache(shop.store, join(shop.records.prefix_uri, "caches"))

    @property
    def rows(self) -> tuple[StageRow, ...]:
        """The stages so far."""
        return tuple(d.row for d in self.done.values())

    def step(self, stage: Stage) -> None:
        """Finds the stage's record, or does the stage and commits it."""
        self.current = stage.name
        record = self.shop.records.find(self._origin(stage).key, max_age_seconds=self._max_age(stage))
        if record is None:
            self.done[stage.name] = self._do(stage)
            return
        self.tracker.cached(stage.name, stage.weight, record.seconds)
        self.done[stage.name] = Done(stage, record, cached=True, seconds=record.seconds)

    def adopt(self, keys: Mapping[str, str]) -> bool:
        """Goes on with these records, by stage, whatever machine made them; False, and nothing, if one is lost."""
        taken: dict[str, Done] = {}
        looked = [look for look in self.plan.looks if look.name in keys]
        for stage in (*self.plan.stages, *looked):
            record = self.shop.records.find(keys[stage.name]) if stage.name in keys else None
            if record is None:
                return False
            taken[stage.name] = Done(stage, record, cached=True, seconds=record.seconds)
        for look in looked:
            if look.name not in self.done:
                self.tracker.expect(look.weight)
        for name, done in taken.items():
            if name not in self.done:
                self.tracker.cached(name, done.stage.weight, done.seconds)
        self.done = taken
        self._artifacts.clear()
        self.adopted = True
        return True

    def artifact(self, name: str) -> Artifact:
        """The files of a stage that is done, fetched now if they are not here yet.

        Raises RecordLost when they are gone and, made again here, would not be those that the figures are of.
        """
        for _ in range(MEND_ATTEMPTS):
            if name in self._artifacts:
                return self._artifacts[name]
            done = self.done[name]
            try:
                self._artifacts[name] = self.shop.records.fetch(done.record, self._folder(name))
            except RecordLost as lost:
                if self.adopted:
                    raise
                log.warning("%s: %s; it is made again", name, lost)
                self._replace(name, self._do(done.stage))
        return self._artifacts[name]

    def _replace(self, name: str, made: Done) -> None:
        """Not every compiler writes the same bytes twice: figures that were taken of the former ones are not of these.

        Raises StoreFailed then. The next attempt finds the new record, and measures what it holds.
        """
        before, self.done[name] = self.done[name].record.digest, made
        rests = [stage for stage, done in self.done.items() if name in done.stage.needs]
        if made.record.digest != before and rests:
            raise StoreFailed(
                f"the files of {name} were lost and came out differently when they were made again; "
                f"{', '.join(rests)} had used the former ones",
                mend="run it again: what rests on the lost files is then done anew",
            )

    def _do(self, stage: Stage) -> Done:
        """Runs the stage in an empty folder and commits what it yields; the winner's bytes count."""
        inputs = {need: self.artifact(need) for need in stage.needs}
        self.current = stage.name
        self.tracker.begin(stage.name, stage.weight, measuring=stage.measuring, silence_seconds=stage.silence_seconds)
        folder, began = self._folder(stage.name), time.monotonic()
        origin = self._origin(stage)
        kept = StoredCheckpoints(self.shop.store, self.shop.records.prefix_uri, origin.key)
        made = stage.run(StageContext(self.plan.request, folder, inputs, self.tracker.report, self._cache, kept))
        seconds = time.monotonic() - began
        self.tracker.keep()
        record = self.shop.records.commit(
            origin.key, made, seconds, origin=origin, max_age_seconds=self._max_age(stage)
        )
        kept.clear()
        if made.folder == folder and record.made_from == origin and record.seconds == seconds:
            self._artifacts[stage.name] = Artifact(made.kind, folder, made.files, record.facts)
        self.tracker.finish()
        return Done(stage, record, cached=False, seconds=seconds)

    def _origin(self, stage: Stage) -> MadeFrom:
        return origin_of(self.plan, stage, {name: d.record for name, d in self.done.items()}, self._fingerprint)

    def _max_age(self, stage: Stage) -> int | None:
        return 0 if self.shop.force_measure and stage.measuring else stage.max_age_seconds

    def _folder(self, name: str) -> Path:
        """A folder that is empty and the run's own."""
        return Path(tempfile.mkdtemp(prefix=f"{len(self.done):02d}-{name[:40]}-", dir=self.folder))
