"""Small Jobs beside runs, for what only a worker may do, since the operator has no key to any store.

An errand's Job runs the worker image with `strop errand`, gets its request as a run does, and answers in its
termination message.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from strop_api.base import ApiModel, Digest, FolderUri, Name, Text
from strop_api.optimization import ModelOptimizationSpec
from strop_api.reasons import Reason
from strop_api.result import StoreAccess
from strop_api.status import ArtifactRef, Message
from strop_api.told import Told, without_unknown

SIGNING_PATH = "/etc/strop/signing"
"""Folder with `cosign.key` and perhaps `cosign.password`, from the policy's Secret; absent without one."""


class ErrandKind(StrEnum):
    """What is to be done."""

    DRIFT = "Drift"
    """Say whether what was published has been overtaken."""
    CLEAN_UP = "CleanUp"
    """Remove what a deleted resource has published."""


class ErrandRequest(ApiModel):
    """All an errand's worker is told."""

    errand: ErrandKind
    """What is to be done."""
    namespace: Name
    """Namespace of the resource."""
    name: Annotated[str, Text(253)]
    """Name of the resource."""
    uid: Annotated[str, Text(64)]
    """UID of the resource."""
    store: StoreAccess
    """The object store."""
    output_uri: FolderUri
    """`spec.output.uri`."""
    spec: ModelOptimizationSpec | None = None
    """Drift: the spec that was carried out."""
    run_id: Annotated[str, Text(32, r"^[0-9a-z-]+$")] | None = None
    """Drift: the run that published."""
    artifact: ArtifactRef | None = None
    """Drift: what it published."""


class Change(Told):
    """One thing that has moved on."""

    reason: Reason
    """SourceChanged or RuntimeChanged; whether the image has changed the operator sees itself."""
    message: Annotated[str, Text(256)]
    """Before and now."""


class ErrandResult(Told):
    """The termination message of an errand."""

    errand: ErrandKind
    """What was done."""
    done: bool
    """Whether it came to an end."""
    message: Message = ""
    """What was removed, or why it could not be done."""
    changes: Annotated[list[Change], Field(max_length=4), without_unknown(reason=Reason)] = []
    """Drift: what has moved on; empty when nothing has."""
    model_digest: Digest | None = None
    """Drift: digest of the source as it is now."""
