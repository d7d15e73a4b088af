"""The list of rules of each kind."""

from strop_api.rules.admins import POLICY
from strop_api.rules.combinations import COMBINATIONS
from strop_api.rules.rule import Rule
from strop_api.rules.sources import DATA, MODEL, TASK
from strop_api.rules.steps import STEPS
from strop_api.rules.targets import GATES, TARGETS, TOGETHER
from strop_api.rules.worker import AMOUNTS, WORKER

RULES: tuple[Rule, ...] = (*MODEL, *TASK, *DATA, *STEPS, *TARGETS, *GATES, *TOGETHER, *COMBINATIONS, *WORKER)
"""Of a ModelOptimization."""

POLICY_RULES: tuple[Rule, ...] = (*POLICY, *AMOUNTS)
"""Of an OptimizationPolicy."""
