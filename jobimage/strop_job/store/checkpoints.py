"""Where a stage that takes hours keeps what it has so far: one folder a record's key, gone once the record is there."""

import logging
from pathlib import Path

from strop_job.errors import StropError
from strop_job.store.objects import ObjectStore, join

FOLDER = "checkpoints"

log = logging.getLogger(__name__)


class StoredCheckpoints:
    """Files below `<records>/checkpoints/<key>/`. A store that fails here costs time, not the run: it is logged."""

    def __init__(self, store: ObjectStore, records_uri: str, key: str) -> None:
        self._store, self._prefix = store, join(records_uri, FOLDER, key)
        self._used = False

    def load(self, folder: Path) -> None:
        """Fetch what an earlier attempt kept."""
        self._used = True
        try:
            for found in self._store.list(self._prefix):
                name = found.uri.rpartition("/")[2]
                self._store.download(found.uri, folder / name)
        except StropError as error:
            log.warning("no checkpoint was read, the stage starts over: %s", error.message)
            for path in folder.iterdir():
                path.unlink()

    def save(self, path: Path) -> None:
        """Keep a file in the place of its namesake."""
        try:
            self._store.upload(join(self._prefix, path.name), path)
        except StropError as error:
            log.warning("the checkpoint was not kept: %s", error.message)

    def clear(self) -> None:
        """The record is there: nothing of this is needed any more."""
        if not self._used:
            return
        try:
            for found in list(self._store.list(self._prefix)):
                self._store.delete(found.uri)
        except StropError as error:
            log.warning("checkpoints were left behind: %s", error.message)
