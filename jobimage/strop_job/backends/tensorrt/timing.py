"""Timings of kernels that runs on the same device and version share: sealed, checked, merged by TensorRT itself."""

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from typing import Any

from strop_job.backends.tensorrt.library import Heard, Library
from strop_job.stages import SharedCache

log = logging.getLogger(__name__)

MAGIC = b"strop timing cache 1\n"


@dataclass(frozen=True)
class Origin:
    """Where timings were taken; elsewhere they would be wrong."""

    device: str
    version: str

    @property
    def name(self) -> str:
        """Under which the cache is shared."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", f"timing-{self.device}-tensorrt-{self.version}.cache")


def seal(payload: bytes, origin: Origin) -> bytes:
    """The payload with its digest and origin before it: bytes that were cut or changed must not reach the library."""
    head = {"device": origin.device, "version": origin.version, "digest": hashlib.sha256(payload).hexdigest()}
    return MAGIC + json.dumps(head, sort_keys=True).encode() + b"\n" + payload


def unseal(sealed: bytes, origin: Origin) -> tuple[bytes, str]:
    """The payload, and why it was discarded (it is empty then)."""
    if not sealed.startswith(MAGIC):
        return b"", "it is no timing cache"
    line, _, payload = sealed.removeprefix(MAGIC).partition(b"\n")
    try:
        head = json.loads(line)
        found = (str(head["device"]), str(head["version"]), str(head["digest"]))
    except (ValueError, KeyError, TypeError):
        return b"", "its head cannot be read"
    if found[2] != hashlib.sha256(payload).hexdigest():
        return b"", "it is damaged: its digest is another"
    if found[:2] != (origin.device, origin.version):
        return b"", f"it is of {found[0]} and version {found[1]}"
    return payload, ""


class TimingCache:
    """The timing cache of one build: read and attached before, merged and kept after."""

    def __init__(self, library: Library, heard: Heard, origin: Origin, shared: SharedCache) -> None:
        self._library, self._heard, self._origin, self._shared = library, heard, origin, shared
        self._timing: Any = None
        self.state = "new"
        """`new` or `shared`."""
        self.discarded = ""
        """Why what was read was not used."""

    def attach(self, config: Any) -> None:
        """Gives the builder what other runs have measured; a cache that it does not take gives way to an empty one."""
        sealed = self._shared.read(self._origin.name)
        payload, self.discarded = unseal(sealed, self._origin) if sealed is not None else (b"", "")
        self._timing = self._made(config, payload)
        if payload and not config.set_timing_cache(self._timing, False):
            self.discarded = "TensorRT finds it was taken elsewhere"
            payload, self._timing = b"", self._made(config, b"")
        if not payload:
            config.set_timing_cache(self._timing, False)
        self.state = "shared" if payload and not self.discarded else "new"

    def keep(self, config: Any) -> None:
        """Shares what this build measured, together with what others have shared meanwhile. Never raises."""
        try:
            timing = config.get_timing_cache()
            if timing is not None:
                self._shared.update(self._origin.name, lambda newest: self._merged(config, timing, newest))
        except Exception as error:  # the plan is built: timings that are lost cost the next build time, no more
            log.warning("the timing cache %s was not kept: %s: %s", self._origin.name, type(error).__name__, error)

    def _merged(self, config: Any, timing: Any, newest: bytes | None) -> bytes:
        payload, _ = unseal(newest, self._origin) if newest else (b"", "")
        if payload:
            timing.combine(self._made(config, payload), False)
        return seal(bytes(timing.serialize()), self._origin)

    def _made(self, config: Any, payload: bytes) -> Any:
        """TensorRT's own object; for bytes that it cannot read it warns and gives an empty one."""
        before = len(self._heard.warnings)
        timing = config.create_timing_cache(payload)
        unread = any("timing cache" in line for line in self._heard.warnings[before:])
        if payload and (timing is None or unread):
            self.discarded = "TensorRT cannot read it"
        return config.create_timing_cache(b"") if timing is None else timing
