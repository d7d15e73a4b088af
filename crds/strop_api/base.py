"""The base model and the constrained strings every part of the contract is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel


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


Name = Annotated[str, Text(63, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A DNS label, as Kubernetes uses for names."""

TensorName = Annotated[str, Text(256)]
"""The name of a tensor, column or array, as the model or the data file spells it."""

DimensionName = Annotated[str, Text(63, r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of a dynamic dimension, such as `batch`."""

Callable = Annotated[str, Text(256, r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")]
"""`package.module:function`."""

Uri = Annotated[str, Text(1024, r"^(s3|hf|pvc|oci|file)://[^\s?#]+$")]
"""Where something lies: `s3://bucket/key`, `hf://owner/name`, `pvc://claim/path`, `oci://host/name`, `file:///path`."""

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

LabelKey = Annotated[str, Text(316, r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Text(63, r"^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$", min_length=0)]
LabelMap = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]

Timestamp = Annotated[str, Text(32, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$")]
"""RFC 3339 in UTC."""


def percent(text: str) -> float:
    """`30%` as 0.3."""
    return float(text.removesuffix("%")) / 100


SUFFIXES = {
    "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: bytes for memory, cores for CPU."""
    digits = text.rstrip("mkMGTi")
    return float(digits) * SUFFIXES[text[len(digits) :]]
