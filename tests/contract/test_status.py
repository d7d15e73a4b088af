"""What is told between parts of different releases: what a reader does not know is passed over, the rest is kept."""

from typing import Any

import pytest
from pydantic import ValidationError
from tests.contract.extremes import largest

from strop_api.base import ApiModel
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import ProgressReport, Result, StageMark
from strop_api.schema import structural
from strop_api.status import ModelOptimizationStatus

TOLD: tuple[type[ApiModel], ...] = (ModelOptimizationStatus, Result, ProgressReport, StageMark)


def _grown(value: Any) -> Any:
    """With a field of a later release in every object."""
    if isinstance(value, dict):
        return {name: _grown(child) for name, child in value.items()} | {"ofALaterRelease": {"deep": [1]}}
    return [_grown(child) for child in value] if isinstance(value, list) else value


@pytest.mark.parametrize("model", TOLD)
def test_fields_of_a_later_release_are_passed_over_at_every_depth(model: type[ApiModel]) -> None:
    """An operator that could not read a newer status would take the run for one that was never made, and repeat it."""
    document = largest(structural(model, defaults=False))
    assert model.model_validate(_grown(document)) == model.model_validate(document)


def test_what_users_write_is_read_strictly() -> None:
    """There a field that is passed over is a wish that nobody fulfils."""
    document = largest(structural(ModelOptimizationStatus, defaults=False))
    with pytest.raises(ValidationError, match="Extra inputs"):
        ModelOptimizationSpec.model_validate({"model": {}, "unknown": document})
