"""Detector of calibration data that is unlike the data the model will meet: what is observed, compared and said."""

from strop_job.audit.calibration.compare import compare
from strop_job.audit.calibration.observe import Observer, observe
from strop_job.audit.calibration.observed import Observed
from strop_job.audit.calibration.stage import audit_calibration_stage
from strop_job.audit.calibration.verdict import Verdict

__all__ = ["Observed", "Observer", "Verdict", "audit_calibration_stage", "compare", "observe"]
