"""The base model and the constrained strings every part of the contract is made of."""

from fractions import Fraction
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo


class ApiModel(BaseModel):
    """Frozen, camelCase on the wire, no unknown fields: what is not understood is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def Text(max_length: int, pattern: str | None = None, min_length: int = 1) -> StringConstraints:  # noqa: N802
    """Bounds of a string: every string of the API has them, so that CEL costs stay bounded."""
    return StringConstraints(min_length=min_length, max_length=max_length, pattern=pattern)


def ListMap(max_length: int, *, min_length: int = 0, key: str = "name") -> FieldInfo:  # noqa: N802
    """A bounded list whose entries are told apart by `key`, as `kubectl apply` merges them; a key occurs once."""
    extra: dict[str, JsonValue] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    field: FieldInfo = Field(min_length=min_length, max_length=max_length, json_schema_extra=extra)
    return field


def ListSet(max_length: int, *, min_length: int = 0) -> FieldInfo:  # noqa: N802
    """A bounded list of scalars, each at most once."""
    extra: dict[str, JsonValue] = {"x-kubernetes-list-type": "set"}
    field: FieldInfo = Field(min_length=min_length, max_length=max_length, json_schema_extra=extra)
    return field


Name = Annotated[str, Text(63, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A DNS label, as Kubernetes uses for names."""

TensorName = Annotated[str, Text(256)]
"""The name of a tensor, column or array, as the model or the data file spells it."""

DimensionName = Annotated[str, Text(63, r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of a dynamic dimension, such as `batch`."""

Callable = Annotated[str, Text(256, r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")]
"""`package.module:function`."""

Uri = Annotated[str, Text(1024, r"^(s3|hf|pvc|oci|file)://[^\s?#\x00-\x1f\x7f]+$")]
"""Where something lies: `s3://bucket/key`, `hf://owner/name`, `pvc://claim/path`, `oci://host/name`, `file:///path`."""

_PRINTABLE = r"[A-Za-z0-9!$%&'()*+,;=:@._~/{}-]"

FolderUri = Annotated[str, Text(512, rf"^(s3|pvc|oci|file)://{_PRINTABLE}+$")]
"""A folder that is written to. Plain ASCII and short: addresses below it must fit the termination message."""

PublishedUri = Annotated[str, Text(768, rf"^(s3|pvc|oci|file)://{_PRINTABLE}+$")]
"""What was written below a `FolderUri`."""

Digest = Annotated[str, Text(71, r"^sha256:[0-9a-f]{64}$")]
"""SHA-256 of the content, `sha256:` and 64 hexadecimal digits."""

ImageRef = Annotated[str, Text(512, r"^[a-z0-9][^\s@]*@sha256:[0-9a-f]{64}$")]
"""A container image by digest."""

Percent = Annotated[str, Text(8, r"^(100|[0-9]{1,2}(\.[0-9]{1,3})?)%$")]
"""A percentage as a string: `30%`, `99.9%`."""

Ratio = Annotated[str, Text(8, r"^[0-9]{1,3}(\.[0-9]{1,3})?$")]
"""A ratio as a string: `1.5`."""

Decimal = Annotated[str, Text(16, r"^-?[0-9]{1,9}(\.[0-9]{1,6})?$")]
"""A decimal number as a string: never a float in the API."""

Quantity = Annotated[str, Text(20, r"^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
"""A Kubernetes quantity: `100Mi`, `500m`."""

LABEL_KEY_PATTERN = r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"
LabelKey = Annotated[str, Text(316, LABEL_KEY_PATTERN)]
LabelValue = Annotated[str, Text(63, r"^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$", min_length=0)]
LabelMap = Annotated[dict[str, LabelValue], Field(max_length=32)]
"""Labels. A schema cannot bound the keys of a map: a rule does."""

Timestamp = Annotated[str, Text(32, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$")]
"""RFC 3339 in UTC."""


def percent(text: str) -> float:
    """`30%` as 0.3."""
    return float(text.removesuffix("%")) / 100


_POWERS = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}
SUFFIXES = {
    "m": Fraction(1, 1000),
    **{suffix: Fraction(10**power) for suffix, power in _POWERS.items()},
    **{f"{suffix.upper()}i": Fraction(2 ** (power // 3 * 10)) for suffix, power in _POWERS.items() if power},
}


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: bytes for memory, cores for CPU. `700m` is `0.7` to the last bit."""
    digits = text.rstrip("mkKMGTi")
    return float(Fraction(digits) * SUFFIXES[text[len(digits) :]])
