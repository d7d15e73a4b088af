"""How often evaluation data was judged on, counted in the store."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from strop_job.errors import InvalidInput
from strop_job.trust.ledger import count

DIGEST = "sha256:" + "5" * 64


def test_each_measurement_on_the_same_data_is_counted_once(place):
    """A figure that was chosen among many would look like the first."""
    records = f"s3://{place.bucket}/records"
    assert [count(place.store, records, DIGEST, key) for key in ("a", "b", "a", "c", "b")] == [1, 2, 1, 3, 2]
    assert count(place.store, records, "sha256:" + "6" * 64, "a") == 1
    assert count(place.store, f"s3://{place.bucket}/others", DIGEST, "z") == 1


def test_runs_that_end_at_once_are_all_counted(place):
    """The last writer would erase the others."""
    records = f"s3://{place.bucket}/records"
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: count(place.store, records, DIGEST, f"r{n}"), range(12)))
    assert sorted(told) == list(range(1, 13))


def test_a_damaged_ledger_is_told_and_not_begun_anew(local):
    """The count would silently say less than is true."""
    local.write(f"records/evaluations/{'5' * 64}.json", b"{")
    with pytest.raises(InvalidInput, match="is damaged"):
        count(local.store, "s3://bucket/records", DIGEST, "a")
