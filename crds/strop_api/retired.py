"""Archived and superseded systems that people still ask for by name: why not, and what to use now.

Their names are valid words of the schema, so that a rule speaks and not the list of what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class Retired:
    """One name that is understood and refused."""

    why: str
    instead: str
    """What to write now."""

    def message(self, name: str) -> str:
        """The refusal, with the mend."""
        return f"{name} {self.why}: {self.instead}"


_NEURAL_MAGIC = "was archived in June 2025"
_INDUCTOR = "use runtime Inductor, which compiles what torch.export gives"
_LITERT = "choose a runtime that is measured here, and publish output format LiteRT beside it"
_CALIBRATION = "belongs to TensorRT's implicit calibration, which TensorRT 11 removed"

RETIRED: Mapping[str, Mapping[str, Retired]] = {
    "spec.model.format": {
        "TorchScript": Retired("is deprecated by PyTorch", "export by torch.export and give the file as TorchExport"),
    },
    "spec.targets[].runtime": {
        "DeepSparse": Retired(_NEURAL_MAGIC, "use runtime OpenVINO or ONNXRuntime for INT8 on a CPU"),
        "SparseML": Retired(_NEURAL_MAGIC, "use a Quantize step with runtime OpenVINO or ONNXRuntime"),
        "TFLite": Retired("is named LiteRT since 2024", _LITERT),
        "TensorFlowLite": Retired("is named LiteRT since 2024", _LITERT),
        "TorchScript": Retired("is deprecated by PyTorch", _INDUCTOR),
        "nGraph": Retired("is archived and lives on in OpenVINO", "use runtime OpenVINO"),
        "TFTRT": Retired("is off in TensorFlow since its release 2.18", "use runtime TensorRT on an ONNX model"),
    },
    "spec.output.formats[]": {
        "TFLite": Retired("is named LiteRT since 2024", "use LiteRT"),
    },
    "spec.steps[].quantize.calibrator": {
        "EntropyCalibrator": Retired(_CALIBRATION, "use Entropy, which puts Q/DQ nodes into the graph"),
        "EntropyCalibrator2": Retired(_CALIBRATION, "use Entropy, which puts Q/DQ nodes into the graph"),
        "MinMaxCalibrator": Retired(_CALIBRATION, "use MinMax, which puts Q/DQ nodes into the graph"),
        "LegacyCalibrator": Retired(_CALIBRATION, "use Percentile, which puts Q/DQ nodes into the graph"),
    },
}
"""By the place of the spec where the name would stand."""


@dataclass(frozen=True)
class Retirable:
    """Annotation of an enum's field: its retired names are in the schema, and refused in their own words."""

    place: str
    """Where the field is: a key of RETIRED."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._refuse, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        return {**made, "enum": [*handler.resolve_ref_schema(made)["enum"], *RETIRED[self.place]]}

    def _refuse(self, value: Any) -> Any:
        found = RETIRED[self.place].get(value) if isinstance(value, str) else None
        if found is not None:
            raise PydanticCustomError("retired", "{refusal}", {"refusal": found.message(value)})
        return value
