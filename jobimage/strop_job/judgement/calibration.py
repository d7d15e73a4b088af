"""The gate on the calibration data: that it is like the data the model is judged on."""

from collections.abc import Iterator, Mapping
from typing import Any

from strop_api.status import GateStatus
from strop_api.targets import CalibrationGate
from strop_job.judgement.case import Case
from strop_job.judgement.verdicts import unmeasured, verdict


def calibration(case: Case) -> Iterator[GateStatus]:
    """Bound on the mismatches that the audit of the calibration data found."""
    if case.gates.calibration is not None:
        yield calibration_status(case.gates.calibration, case.seen.calibration)


def calibration_status(gate: CalibrationGate, facts: Mapping[str, Any]) -> GateStatus:
    """The verdict on the facts of an audit; NotMeasured where none was made, as without calibration data."""
    name, found, most = "calibration", facts.get("mismatches"), gate.max_mismatches
    if not isinstance(found, int):
        return unmeasured(name, "no calibration data was audited: the run observes no ranges on spec.data.calibration")
    passed = found <= most
    counted = f"{found} mismatch{'' if found == 1 else 'es'} of the calibration data with the data it is judged on"
    return verdict(name, passed, found, most, f"{counted}, {'within' if passed else 'beyond'} {most}")
