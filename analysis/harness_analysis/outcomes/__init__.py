"""Who answered which query how well and at what cost: one table, from the store or from files."""

from harness_analysis.outcomes.matrix import COST_UNITS, OutcomeMatrix
from harness_analysis.outcomes.opening import open_outcomes
from harness_analysis.outcomes.table import OUTCOMES_SCHEMA, Outcomes

__all__ = ["COST_UNITS", "OUTCOMES_SCHEMA", "OutcomeMatrix", "Outcomes", "open_outcomes"]
