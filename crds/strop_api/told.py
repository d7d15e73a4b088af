"""What one part of the project tells another, read leniently."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BeforeValidator, ConfigDict

from strop_api.base import ApiModel


class Told(ApiModel):
    """What one part tells another: a field that a later release has added is passed over, at every depth. To refuse it
    would be to lose the rest, and with it a run that has ended."""

    model_config = ConfigDict(extra="ignore")


def unknown_as(otherwise: StrEnum | None, words: type[StrEnum]) -> BeforeValidator:
    """A word that a later release has added to `words` is read as `otherwise`: the word that promises least."""

    def read(value: object) -> object:
        return otherwise if isinstance(value, str) and value not in list(words) else value

    return BeforeValidator(read)


def without_unknown(**fields: type[StrEnum]) -> BeforeValidator:
    """Entries of a list that use a word of a later release in one of these fields, named as on the wire, are left
    out."""

    def told(entry: object) -> bool:
        if not isinstance(entry, Mapping):
            return True
        return all(_known(entry.get(field), words) for field, words in fields.items())

    def read(value: Any) -> Any:
        return [entry for entry in value if told(entry)] if isinstance(value, list) else value

    return BeforeValidator(read)


def _known(value: object, words: type[StrEnum]) -> bool:
    return not isinstance(value, str) or value in list(words)
