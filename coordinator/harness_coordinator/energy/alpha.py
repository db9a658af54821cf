"""How many output tokens a prompt token counts for, from the energies that the instrument saw.

Over each interval of the instrument, energy = c_idle length + c_busy time in flight + c_prompt prompt tokens
+ c_output output tokens; alpha = c_prompt / c_output. Ordinary least squares; the standard error by propagation,

    var(alpha) / alpha^2 = var(c_p) / c_p^2 + var(c_o) / c_o^2 - 2 cov(c_p, c_o) / (c_p c_o)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.activity import Activity
from harness_coordinator.energy.curve import NORMAL_99
from harness_coordinator.energy.load_model import Observations

DEFAULT_ALPHA = 0.25
"""Used where too few queries tell. Prompt tokens share each read of the weights, so one costs a fraction of an
output token at the batch sizes of a small fleet; the fits of the rig's engines lie between 0.1 and 0.5."""
CONCEIVABLE = (0.0, 0.1, 0.5, 1.0)
"""From nothing (the prompt rides along with a decode step that is bound by memory) to as much as an output token
(both bound by arithmetic, at large batches)."""
FEWEST_QUERIES = 8
FEWEST_INTERVALS = 48
LARGEST_RELATIVE_ERROR = 0.5
LARGEST_ERROR_NEAR_ZERO = 0.02
"""A prompt token that costs next to nothing has no relative error; within this of zero it is known well enough."""


@dataclass(frozen=True, slots=True)
class Alpha:
    """Weight of a prompt token in output tokens, and its standard error (NaN where it was given or assumed)."""

    value: float
    standard_error: float = math.nan
    assumed: bool = False
    """Whether it is the default because the data do not tell."""

    def candidates(self) -> tuple[float, ...]:
        """Values between which the true one lies in 99 % of cases: the ends of its bounds, or what is conceivable.

        Empty where it was given, or plays no part.
        """
        if self.assumed:
            return CONCEIVABLE
        if not self.standard_error > 0:
            return ()
        reach = NORMAL_99 * self.standard_error
        return max(self.value - reach, 0.0), self.value + reach


def fit_alpha(activity: Activity | None, seen: Observations | None, queries: int, lag_s: float) -> Alpha:
    """Fit alpha, or fall back on the default where the data do not pin it down.

    Args:
        activity: load with token terms.
        seen: intervals of the instrument and their energies.
        queries: number of queries with token counts.
        lag_s: how far the stamps trail the device (for a power sensor: less its delay), s.
    """
    default = Alpha(DEFAULT_ALPHA, assumed=True)
    if activity is None or seen is None or queries < FEWEST_QUERIES or len(seen) < FEWEST_INTERVALS:
        return default
    if "prompt" not in activity.terms or "output" not in activity.terms:
        return default
    columns = [activity.terms.index(term) for term in ("busy", "prompt", "output")]
    load = activity.between(seen.start_s + lag_s, seen.end_s + lag_s)[:, columns]
    matrix = np.column_stack([seen.end_s - seen.start_s, load])
    scale = np.sqrt((matrix**2).mean(axis=0))
    if not (scale > 0).all():
        return default
    scaled = matrix / scale
    levels, _, rank, _ = np.linalg.lstsq(scaled, seen.energy_j, rcond=1e-6)
    if rank < matrix.shape[1]:
        return default
    residual = seen.energy_j - scaled @ levels
    noise = float(residual @ residual) / (len(seen) - matrix.shape[1])
    covariance = noise * np.linalg.inv(scaled.T @ scaled) / np.outer(scale, scale)
    prompt_j, output_j = (float(x) for x in (levels / scale)[2:])
    if output_j <= 3 * math.sqrt(covariance[3, 3]):
        return default
    value = prompt_j / output_j
    slope = np.array([1 / output_j, -value / output_j])
    error = math.sqrt(max(float(slope @ covariance[2:, 2:] @ slope), 0.0))
    if error > max(LARGEST_RELATIVE_ERROR * value, LARGEST_ERROR_NEAR_ZERO):
        return default
    return Alpha(max(value, 0.0), error)
