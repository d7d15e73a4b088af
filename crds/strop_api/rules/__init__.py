"""The one list of rules. Each has its CEL, which the API server applies, and its Python, which everybody else does."""

from strop_api.rules.advice import findings
from strop_api.rules.catalogue import POLICY_RULES, RULES
from strop_api.rules.rule import Problem, Rule
from strop_api.rules.sources import METRICS
from strop_api.rules.support import check_support
from strop_api.rules.validate import InvalidSpec, validate, validate_policy

__all__ = [
    "METRICS",
    "POLICY_RULES",
    "RULES",
    "InvalidSpec",
    "Problem",
    "Rule",
    "check_support",
    "findings",
    "validate",
    "validate_policy",
]
