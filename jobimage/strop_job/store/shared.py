"""A cache that runs share through the store: read by name, replaced with If-Match, never needed for a right answer."""

import logging
from collections.abc import Callable

from strop_job.errors import StropError
from strop_job.store.objects import ObjectMissing, ObjectStore, join

ATTEMPTS = 5
LIMIT_BYTES = 256 << 20
"""Bytes beyond this are not read: a timing cache has a few megabytes."""

log = logging.getLogger(__name__)


class StoredCache:
    """Objects below one prefix. A store that fails here costs time, not the run: it is logged."""

    def __init__(self, store: ObjectStore, prefix_uri: str) -> None:
        self._store, self._prefix = store, prefix_uri

    def read(self, name: str) -> bytes | None:
        """The newest bytes under a name; None when there are none, or when they cannot be had."""
        try:
            return self._store.read(join(self._prefix, name), LIMIT_BYTES)
        except ObjectMissing:
            return None
        except StropError as error:
            log.warning("the cache %s was not read: %s", name, error.message)
            return None

    def update(self, name: str, merge: Callable[[bytes | None], bytes]) -> None:
        """Replaces the bytes by `merge(newest)`; once more, with newer ones, whenever another writer was faster."""
        uri = join(self._prefix, name)
        try:
            for _ in range(ATTEMPTS):
                seen = self._store.stat(uri)  # before reading: what is read is then at least as new
                newest = self.read(name) if seen else None
                if self._store.replace(uri, merge(newest), seen.etag if seen else None):
                    return
        except StropError as error:
            log.warning("the cache %s was not written: %s", name, error.message)
            return
        log.warning("the cache %s was not written: others write it again and again", name)
