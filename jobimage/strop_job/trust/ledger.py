"""How many models were measured on a set of evaluation data: one small object per digest, appended to with If-Match.

A choice that is made after looking at the evaluation data is a choice on it; whoever reads a figure must know how many
times somebody has looked. Judging what is on record once more, be it against other gates, looks at nothing new.
"""

from typing import Literal

from pydantic import ValidationError

from strop_api.base import ApiModel, Digest
from strop_job.errors import InvalidInput, StoreFailed
from strop_job.store.digests import PREFIX
from strop_job.store.objects import ObjectMissing, ObjectStore, join

ATTEMPTS = 50
"""Runs that end at once write one after the other; each loss is somebody else's success."""
LIMIT_BYTES = 16 << 20
"""Room for more than two hundred thousand reads."""
FOLDER = "evaluations"


class Ledger(ApiModel):
    """`<records>/evaluations/<digest>.json`."""

    format: Literal[1] = 1
    """Version of this layout."""
    digest: Digest
    """Of the evaluation data."""
    reads: list[str]
    """Keys of the records of what was measured on it, in the order it was judged."""


def count(store: ObjectStore, records_uri: str, digest: str, measurement: str) -> int:
    """Note that a measurement was taken on the data, and say which of the namespace's it is: 1 is the first.

    `measurement` is its record's key. One that is judged again gets the same answer. Raises InvalidInput when the
    ledger is damaged: beginning anew by itself, it would say less than is true; StoreFailed when the store fails.
    """
    uri = join(records_uri, FOLDER, f"{digest.removeprefix(PREFIX)}.json")
    for _ in range(ATTEMPTS):
        seen = store.stat(uri)  # before reading: what is read is then at least as new
        ledger = _read(store, uri, digest) if seen else Ledger(digest=digest, reads=[])
        if measurement in ledger.reads:
            return ledger.reads.index(measurement) + 1
        longer = ledger.model_copy(update={"reads": [*ledger.reads, measurement]})
        if store.replace(uri, longer.model_dump_json(by_alias=True).encode(), seen.etag if seen else None):
            return len(longer.reads)
    raise StoreFailed(f"{uri} is written by others again and again", mend="try again")


def _read(store: ObjectStore, uri: str, digest: str) -> Ledger:
    try:
        return Ledger.model_validate_json(store.read(uri, LIMIT_BYTES))
    except ObjectMissing:
        return Ledger(digest=digest, reads=[])
    except ValidationError:
        message = f"{uri}, which counts how often the evaluation data was read, is damaged"
        raise InvalidInput(message, mend="put it back, or remove it: counting then begins anew") from None
