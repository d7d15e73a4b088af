"""What a run publishes, noted before its first file goes up: a later attempt finishes that, and nothing else.

The engine's bytes differ from one processor to the next, and a published folder never changes. An attempt that was
killed while it published, or that runs beside another one, therefore binds all attempts to its own records: their files
go up, with the figures that were measured of these very files.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationError

from strop_api.base import ApiModel, Digest
from strop_job.errors import InvalidInput, StoreFailed
from strop_job.store.objects import ObjectStore
from strop_job.walk import Walk

LIMIT_BYTES = 16 << 20
ATTEMPTS = 5
Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Claim(ApiModel):
    """`claim.json`, beside the run's report."""

    format: Literal[1] = 1
    """Version of this layout."""
    run_id: str
    """The run."""
    records: dict[str, Key]
    """Key of every stage's record, by the stage's name."""
    published: dict[str, Digest]
    """Digest of each artifact that is published, by the stage's name."""
    provenance: dict[str, JsonValue]
    """Of the attempt that measured."""


def claim_of(walk: Walk, published: Iterable[str], provenance: Mapping[str, JsonValue]) -> Claim:
    """What this attempt would publish: the artifacts of the stages `published`."""
    return Claim(
        run_id=walk.plan.request.run_id,
        records={name: done.record.key for name, done in walk.done.items()},
        published={name: walk.done[name].record.digest for name in published},
        provenance=dict(provenance),
    )


def take_over(walk: Walk, uri: str) -> bool:
    """Whether an attempt before this one had claimed the run, and all its records are there to go on with."""
    claim, _ = _read(walk.shop.store, uri)
    return claim is not None and walk.adopt(claim.records)


def settle(walk: Walk, uri: str, mine: Claim) -> Claim:
    """The claim that holds. Where another attempt's came first and says otherwise, the walk now has its records.

    On the command line nobody asked for another attempt's figures: there a folder with other bytes is refused later.
    """
    data = mine.model_dump_json(by_alias=True).encode()
    for _ in range(ATTEMPTS):
        if walk.shop.store.create(uri, data):
            return mine
        other, etag = _read(walk.shop.store, uri)
        if other is not None and (other.published == mine.published or _goes_over(walk, other)):
            return other
        if walk.shop.store.replace(uri, data, etag):
            return mine
    raise StoreFailed(f"{uri} is written by others again and again", mend="try again")


def _goes_over(walk: Walk, other: Claim) -> bool:
    return walk.shop.answer_published and walk.adopt(other.records)


def _read(store: ObjectStore, uri: str) -> tuple[Claim | None, str | None]:
    """The claim and its etag; one that cannot be read holds nobody."""
    found = store.stat(uri)
    if found is None:
        return None, None
    try:
        return Claim.model_validate_json(store.read(uri, LIMIT_BYTES)), found.etag
    except (InvalidInput, ValidationError):
        return None, found.etag
