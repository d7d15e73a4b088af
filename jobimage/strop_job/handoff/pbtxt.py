"""Protobuf's text format, written: https://protobuf.dev/reference/protobuf/textformat-spec/."""

import json
from collections.abc import Iterable, Sequence
from typing import TypeAlias


class Word(str):
    """A bare word: the name of an enum's value."""

    __slots__ = ()


Scalar: TypeAlias = str | int | bool
Value: TypeAlias = "Scalar | Sequence[int] | Message"
Field: TypeAlias = tuple[str, Value]


class Message(tuple[Field, ...]):
    """Fields in order; a name that repeats is a repeated field."""

    __slots__ = ()


def message(*fields: Field) -> Message:
    """A message of these fields."""
    return Message(fields)


def render(fields: Iterable[Field], indent: str = "") -> str:
    """One field a line; messages are indented by two spaces."""
    return "".join(_field(name, value, indent) for name, value in fields)


def _field(name: str, value: Value, indent: str) -> str:
    if isinstance(value, Message):
        return f"{indent}{name} {{\n{render(value, indent + '  ')}{indent}}}\n"
    return f"{indent}{name}: {_scalar(value)}\n"


def _scalar(value: Scalar | Sequence[int]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Word | int):
        return str(value)
    return json.dumps(value) if isinstance(value, str) else f"[{', '.join(map(str, value))}]"
