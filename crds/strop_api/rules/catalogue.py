"""The list of rules of each kind."""

from strop_api.rules.admins import POLICY
from strop_api.rules.combinations import COMBINATIONS
from strop_api.rules.retired import RETIREMENTS
from strop_api.rules.rule import Rule
from strop_api.rules.runtimes import PUBLISHED, TARGETS
from strop_api.rules.sources import DATA, MODEL, TASK
from strop_api.rules.steps import STEPS
from strop_api.rules.targets import GATES, TOGETHER
from strop_api.rules.worker import AMOUNTS, WORKER

RULES: tuple[Rule, ...] = (
    *MODEL, *TASK, *DATA, *STEPS, *TARGETS, *GATES, *TOGETHER, *COMBINATIONS, *PUBLISHED, *WORKER, *RETIREMENTS,
)  # fmt: skip
"""Of a ModelOptimization."""

POLICY_RULES: tuple[Rule, ...] = (*POLICY, *AMOUNTS)
"""Of an OptimizationPolicy."""
