"""What outcomes say before anything is routed: who solves what, and what it costs."""

from harness_analysis.descriptive.efficiency import efficiency, efficiency_gap
from harness_analysis.descriptive.failure_modes import failure_modes
from harness_analysis.descriptive.families import coverage_by_family, families_of
from harness_analysis.descriptive.pool import pool_table
from harness_analysis.descriptive.precision import precision_comparison
from harness_analysis.descriptive.savings import savings_by_size
from harness_analysis.descriptive.solvability import joint_coverage, solvability

__all__ = [
    "coverage_by_family",
    "efficiency",
    "efficiency_gap",
    "failure_modes",
    "families_of",
    "joint_coverage",
    "pool_table",
    "precision_comparison",
    "savings_by_size",
    "solvability",
]
