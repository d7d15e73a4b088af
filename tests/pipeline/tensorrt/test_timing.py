"""The shared timing cache: read, checked, discarded with a reason, merged with what others wrote meanwhile."""

import json
from pathlib import Path
from typing import Any

import pytest

from strop_job.backends.tensorrt import TensorRTRTXBackend, timing
from strop_job.backends.tensorrt.compile import warnings
from strop_job.backends.tensorrt.library import Heard, listener
from strop_job.backends.tensorrt.timing import Origin, TimingCache, seal, unseal
from strop_job.errors import DiskFull, InvalidInput, StoreFailed, StropError
from strop_job.store import shared as store_cache
from strop_job.store.local import LocalStore
from strop_job.store.shared import StoredCache

HERE = Origin("NVIDIA L4", "11.4.0.106")


class FakeTiming:
    """TensorRT's cache as a set of words; the real one needs a GPU to be read again."""

    def __init__(self, words: set[str]) -> None:
        self.words = words

    def serialize(self) -> bytes:
        return json.dumps(sorted(self.words)).encode()

    def combine(self, input_cache: "FakeTiming", ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.words |= input_cache.words
        return True


class FakeConfig:
    """A builder configuration, of which only the timing cache is used."""

    def __init__(self, heard: Heard, *, foreign: bool = False) -> None:
        self.heard, self.foreign = heard, foreign
        self.timing: FakeTiming | None = None

    def create_timing_cache(self, serialized_timing_cache: bytes) -> FakeTiming:
        try:
            return FakeTiming(set(json.loads(serialized_timing_cache or b"[]")))
        except ValueError:
            self.heard.warnings.append("Failed to deserialize timing cache. Returning an empty timing cache.")
            return FakeTiming(set())

    def set_timing_cache(self, cache: FakeTiming, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if self.foreign and cache.words:
            return False
        self.timing = cache
        return True

    def get_timing_cache(self) -> FakeTiming | None:
        return self.timing


@pytest.fixture
def shared(tmp_path: Path) -> StoredCache:
    """The real cache of a namespace, in a folder."""
    (tmp_path / "strop-records").mkdir()
    return StoredCache(LocalStore(tmp_path), "s3://strop-records/team/caches")


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged, taken before the handlers: other libraries of this process switch them off."""
    lines: list[str] = []
    for logger in (timing.log, store_cache.log):
        monkeypatch.setattr(logger, "warning", lambda text, *values: lines.append(text % values))
    return lines


def words(shared: StoredCache) -> set[str]:
    payload, why = unseal(shared.read(HERE.name) or b"", HERE)
    assert why == ""
    return set(json.loads(payload))


def build(shared: StoredCache, measured: str, **config: Any) -> tuple[TimingCache, FakeConfig, Heard]:
    """One build that measures one kernel."""
    heard = Heard()
    made = FakeConfig(heard, **config)
    library: Any = None
    cache = TimingCache(library, heard, HERE, shared)
    cache.attach(made)
    assert made.timing is not None
    made.timing.words.add(measured)
    return cache, made, heard


def test_a_second_build_begins_with_what_the_first_measured(shared: StoredCache) -> None:
    """Without it every build times every kernel again: minutes each."""
    cache, config, _ = build(shared, "conv")
    cache.keep(config)
    assert cache.state == "new"
    again, config, heard = build(shared, "gemm")
    assert (again.state, again.discarded) == ("shared", "")
    again.keep(config)
    assert words(shared) == {"conv", "gemm"}
    assert warnings(heard, again) == []


def test_what_another_run_wrote_meanwhile_is_kept(shared: StoredCache) -> None:
    """Two runs build at once; the later writer must not throw away the earlier one's timings."""
    first, first_config, _ = build(shared, "conv")
    second, second_config, _ = build(shared, "gemm")
    first.keep(first_config)
    second.keep(second_config)
    assert words(shared) == {"conv", "gemm"}


def damaged(payload: bytes) -> bytes:
    sealed = bytearray(seal(payload, HERE))
    sealed[-2] ^= 0xFF
    return bytes(sealed)


PAYLOAD = b'["conv"]'


@pytest.mark.parametrize(
    ("bytes_", "why"),
    [
        (damaged(PAYLOAD), "damaged"),
        (seal(PAYLOAD, HERE)[:-3], "damaged"),
        (b"junk", "no timing cache"),
        (seal(PAYLOAD, HERE)[:40], "head cannot be read"),
        (seal(PAYLOAD, Origin("Tesla T4", HERE.version)), "of Tesla T4"),
        (seal(PAYLOAD, Origin(HERE.device, "11.3.0.1")), "version 11.3.0.1"),
        (seal(b"unreadable", HERE), "TensorRT cannot read it"),
    ],
)
def test_a_cache_that_cannot_be_trusted_is_replaced_and_reported(shared: StoredCache, bytes_: bytes, why: str) -> None:
    """Damaged bytes must not reach the library's C++, and the report must say that the build took longer."""
    shared.update(HERE.name, lambda _: bytes_)
    cache, config, heard = build(shared, "gemm")
    assert cache.state == "new"
    assert why in cache.discarded
    assert why in warnings(heard, cache)[0]
    cache.keep(config)
    assert words(shared) == {"gemm"}


def test_timings_that_cannot_be_merged_do_not_end_the_run(
    shared: StoredCache, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    """The plan is built by then: minutes of work would be lost for what only makes the next build faster."""

    def refuse(*_: object) -> bool:
        raise RuntimeError("the caches do not match")

    build(shared, "conv")[0].keep(build(shared, "conv")[1])
    cache, config, _ = build(shared, "gemm")
    monkeypatch.setattr(FakeTiming, "combine", refuse)
    cache.keep(config)
    assert warned == [f"the timing cache {HERE.name} was not kept: RuntimeError: the caches do not match"]


@pytest.mark.parametrize("error", [DiskFull, InvalidInput, StoreFailed])
def test_a_store_that_takes_no_timings_does_not_end_the_run(
    shared: StoredCache,
    monkeypatch: pytest.MonkeyPatch,
    warned: list[str],
    error: type[StropError],
) -> None:
    """Whatever the store has against it: what it refuses is no part of the result."""

    def refuse(*_: object) -> bool:
        raise error("not here")

    monkeypatch.setattr(LocalStore, "replace", refuse)
    shared.update(HERE.name, lambda _: b"")
    assert warned == [f"the cache {HERE.name} was not written: not here"]


def test_a_cache_that_the_library_finds_foreign_is_discarded(shared: StoredCache) -> None:
    """TensorRT compares the device's properties itself, such as its clocks; its verdict counts."""
    shared.update(HERE.name, lambda _: seal(PAYLOAD, HERE))
    cache, config, _ = build(shared, "gemm", foreign=True)
    assert cache.discarded == "TensorRT finds it was taken elsewhere"
    assert config.timing is not None


def test_devices_and_versions_do_not_share(shared: StoredCache) -> None:
    """Timings of another device choose the wrong kernels."""
    names = {HERE.name, Origin("NVIDIA L4", "11.5.0.1").name, Origin("NVIDIA A100-SXM4-80GB", HERE.version).name}
    assert len(names) == 3
    assert HERE.name == "timing-NVIDIA-L4-tensorrt-11.4.0.106.cache"


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_the_real_library_warns_of_bytes_it_cannot_read(rtx: TensorRTRTXBackend, shared: StoredCache) -> None:
    """The library returns an empty cache for junk and only logs it: the log is where it is noticed."""
    trt, heard = rtx.library.trt, Heard()
    logger = listener(trt, heard)
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    shared.update(HERE.name, lambda _: seal(b"junk" * 50, HERE))
    cache = TimingCache(rtx.library, heard, HERE, shared)
    cache.attach(config)
    assert cache.discarded == "TensorRT cannot read it"
    cache.keep(config)
    payload, why = unseal(shared.read(HERE.name) or b"", HERE)
    assert why == ""
    assert len(payload) > 50
