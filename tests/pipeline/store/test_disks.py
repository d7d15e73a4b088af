"""Full disks, on either side: small ones are mounted and filled."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import MinioServer
from strop_job.errors import DiskFull, StoreFailed
from strop_job.store.local import LocalStore

from .conftest import Place, make_bucket, s3

pytestmark = pytest.mark.minio


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_folder_of_a_local_store_is_a_full_disk(small_disk: Path, big: Path) -> None:
    """Else the message would blame the network."""
    store = LocalStore(small_disk)
    for write in (lambda: store.upload("s3://bucket/big", big), lambda: store.create("s3://bucket/big", big)):
        with pytest.raises(DiskFull, match="no space left"):
            write()
    assert store.stat("s3://bucket/big") is None
    assert store.create("s3://bucket/small", b"x"), "what did not fit takes no space"


def test_a_full_scratch_is_a_full_disk(place: Place, small_disk: Path, big: Path) -> None:
    """Else people would look at the store instead of spec.worker.scratch."""
    place.store.upload(f"{place.uri}/big", big)
    with pytest.raises(DiskFull) as caught:
        place.store.download(f"{place.uri}/big", small_disk / "big")
    assert "spec.worker.scratch" in str(caught.value)
    assert list(small_disk.iterdir()) == []


def test_a_full_server_is_the_stores_failure_and_is_named(small_disk: Path, big: Path) -> None:
    """Else a full store would be taken for a full node."""
    with MinioServer(small_disk) as server:
        uri = f"s3://{make_bucket(server)}/big"
        for write in (lambda: s3(server).upload(uri, big), lambda: s3(server).create(uri, big)):
            with pytest.raises(StoreFailed, match=r"the store (is full|answered 500 InternalError)"):
                write()
        assert s3(server).stat(uri) is None
