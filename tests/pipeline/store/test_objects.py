"""What every store promises, tried on a folder and on a real MinIO server."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strop_job.errors import InvalidInput
from strop_job.store.objects import ObjectMissing, is_safe_name, join, parse

from .conftest import Place

BIG = 17 << 20
"""Several parts for the stores under test."""


def put(place: Place, key: str, data: bytes) -> str:
    uri = f"{place.uri}/{key}"
    assert place.store.create(uri, data)
    return uri


def test_what_was_uploaded_comes_back_with_its_digest(place: Place, tmp_path: Path) -> None:
    """Else artifacts would be damaged in silence; the file is larger than several parts."""
    source, data = tmp_path / "source", os.urandom(BIG)
    source.write_bytes(data)
    uri = f"{place.uri}/deep/er/model.bin"
    place.store.upload(uri, source)
    digest = place.store.download(uri, tmp_path / "new folder" / "back")
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest() == place.store.digest(uri)
    assert (tmp_path / "new folder" / "back").read_bytes() == data
    found = place.store.stat(uri)
    assert found is not None
    assert (found.uri, found.size_bytes) == (uri, BIG)
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["back"]


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_small_object_is_made_read_overwritten_and_removed(place: Place, tmp_path: Path, size: int) -> None:
    """Else records would not survive the smallest sizes."""
    data = os.urandom(size)
    uri = put(place, "a/b", data)
    assert place.store.read(uri, size) == data
    (tmp_path / "new").write_bytes(b"new")
    place.store.upload(uri, tmp_path / "new")
    assert place.store.read(uri, 10) == b"new"
    place.store.delete(uri)
    place.store.delete(uri)
    assert place.store.stat(uri) is None


def test_a_missing_object_is_none_to_stat_and_a_named_error_to_readers(place: Place, tmp_path: Path) -> None:
    """Else a typo in a uri would not be reported with its field."""
    uri = f"{place.uri}/absent"
    assert place.store.stat(uri) is None
    for read in (
        lambda: place.store.download(uri, tmp_path / "x", field="spec.model.uri"),
        lambda: place.store.read(uri, 10, field="spec.model.uri"),
        lambda: place.store.digest(uri, field="spec.model.uri"),
    ):
        with pytest.raises(ObjectMissing, match="absent does not exist") as caught:
            read()
        assert caught.value.field == "spec.model.uri"
    assert list(tmp_path.glob("*x*")) == []


def test_an_object_larger_than_the_limit_is_not_read_into_memory(place: Place) -> None:
    """Else a huge object in place of a record would exhaust the worker."""
    with pytest.raises(InvalidInput, match="larger than 4 bytes"):
        place.store.read(put(place, "large", b"12345"), 4)


def test_a_listing_holds_everything_below_the_folder_and_nothing_else(place: Place) -> None:
    """Else a folder's digest would count a neighbour's files or miss its own."""
    for key in ("m/b", "m/a/c", "m/a.x", "mm/no", "n"):
        put(place, key, b"x")
    assert [i.uri for i in place.store.list(f"{place.uri}/m")] == [f"{place.uri}/m/{k}" for k in ("a.x", "a/c", "b")]
    assert len(list(place.store.list(place.uri))) == 5
    assert list(place.store.list(f"{place.uri}/none")) == []


def test_a_listing_goes_on_over_more_than_one_page(place: Place) -> None:
    """Else a folder of more than a thousand files would be cut off in silence."""
    expected = [f"{place.uri}/many/{n:04}" for n in range(2005)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda uri: place.store.create(uri, b""), expected))
    assert [i.uri for i in place.store.list(f"{place.uri}/many")] == expected


def test_of_many_that_create_at_once_exactly_one_wins(place: Place) -> None:
    """Else two workers would both believe that their record counts."""
    for n in range(5):
        uri = f"{place.uri}/race-{n}"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i, uri=uri: place.store.create(uri, b"%d" % i), range(8)))
        assert won.count(True) == 1
        assert place.store.read(uri, 10) == b"%d" % won.index(True)


def test_a_file_is_created_only_where_nothing_lies(place: Place, tmp_path: Path) -> None:
    """Else a published engine could be overwritten."""
    (tmp_path / "one").write_bytes(os.urandom(BIG))
    (tmp_path / "two").write_bytes(b"two")
    uri = f"{place.uri}/engine"
    assert place.store.create(uri, tmp_path / "one")
    assert not place.store.create(uri, tmp_path / "two")
    assert place.store.stat(uri).size_bytes == BIG  # type: ignore[union-attr]


def test_of_many_that_replace_one_state_exactly_one_wins(place: Place) -> None:
    """Else two runs could move the pointer at once and one would be lost unseen."""
    uri = put(place, "pointer", b"old")
    etag = place.store.stat(uri).etag  # type: ignore[union-attr]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: place.store.replace(uri, b"new %d" % i, etag), range(8)))
    assert won.count(True) == 1
    assert place.store.read(uri, 10) == b"new %d" % won.index(True)


def test_replacing_needs_the_state_that_was_seen(place: Place) -> None:
    """Else a pointer that moved, vanished or appeared meanwhile would be overwritten."""
    uri = f"{place.uri}/pointer"
    assert not place.store.replace(uri, b"x", "0" * 32)
    assert place.store.replace(uri, b"first", None)
    assert not place.store.replace(uri, b"second", None)
    seen = place.store.stat(uri)
    assert seen is not None
    assert place.store.replace(uri, b"third", seen.etag)
    assert not place.store.replace(uri, b"fourth", seen.etag)
    assert place.store.read(uri, 10) == b"third"


def test_an_etag_changes_with_the_content(place: Place, tmp_path: Path) -> None:
    """Else a changed model would be taken from the cache."""
    seen = set()
    for n in range(3):
        (tmp_path / "m").write_bytes(bytes([n]) * (2 << 20))
        place.store.upload(f"{place.uri}/m", tmp_path / "m")
        seen.add(place.store.stat(f"{place.uri}/m").etag)  # type: ignore[union-attr]
    assert len(seen) == 3


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/a/../../x", "s3://bucket/./a", "s3://bucket/a//b", "s3://../etc/passwd", "s3://b/x", "file:///x",
     "s3://bucket//etc/passwd", "s3://bucket/a\\..\\b", "s3://bucket/a\nb", "s3://.strop/locks/00", "s3:///key",
     "s3://bucket/" + "x" * 300, "s3://bucket/" + "x/" * 600],
)  # fmt: skip
def test_a_uri_that_is_no_plain_path_is_refused(place: Place, uri: str, tmp_path: Path) -> None:
    """Else a key could escape the folder, or mean different things to different stores."""
    with pytest.raises(InvalidInput) as caught:
        place.store.download(uri, tmp_path / "x", field="spec.model.uri")
    assert caught.value.field == "spec.model.uri"
    assert not isinstance(caught.value, ObjectMissing)


def test_a_bucket_alone_is_no_object(place: Place) -> None:
    """Else the folder of a bucket could be read or removed as if it were a file."""
    with pytest.raises(InvalidInput, match="names a bucket"):
        place.store.delete(place.uri)


def test_names_and_uris_are_taken_apart_and_put_together() -> None:
    """Else paths would gain or lose slashes between the parts of the worker."""
    assert parse("s3://bucket/a/b/").uri == "s3://bucket/a/b"
    assert parse("s3://bucket/").uri == "s3://bucket"
    assert join("s3://bucket/a/", "b", "c") == "s3://bucket/a/b/c"
    assert is_safe_name("a b/ü.onnx")
    assert not any(is_safe_name(n) for n in ("", "/a", "a/", "..", "a/../b", "a\0", "a\\b"))
