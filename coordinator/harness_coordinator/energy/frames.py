"""Frames: a source that reports the energy of each stretch of time it sampled (powermetrics)."""

from __future__ import annotations

import numpy as np

from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import CleanSamples
from harness_coordinator.energy.records import BadSamplesError, Float64

DELAY_WINDOW = 32
"""Frames over which the least delay of arrival is looked for: delays vary, the source's own clock does not."""
HOLE_SHARE = 0.5
"""A frame that begins later than this share of its length after the one before leaves a hole."""


def frame_edges(samples: CleanSamples) -> Edges:
    """Energy over [end - elapsed, end] of each frame, on the source's own clock.

    A frame arrives some time after its end, and that delay varies; the elapsed times do not. Ends are therefore
    the sums of the elapsed times, put as early as the least delayed arrival of the frames nearby allows. Where
    a frame is missing, its time is a hole: its energy is taken at the neighbours' power, and marked.

    Args:
        samples: one poll per frame, cumulative energy at its arrival and its elapsed time.

    Raises:
        BadSamplesError: no frame has a length and an energy.
    """
    usable = ~np.isnan(samples.energy_j) & (samples.interval_s > 0)
    arrival, elapsed, total = samples.t_s[usable], samples.interval_s[usable], samples.energy_j[usable]
    if len(arrival) < 2:
        raise BadSamplesError("fewer than two frames with an elapsed time and an energy; record for longer")
    energy = np.append(np.nan, np.diff(total))
    # The counter starts at the first frame or long before: only a total of one frame's size is that frame's own.
    mean_w = float((total[-1] - total[0]) / elapsed[1:].sum())
    energy[0] = total[0] if total[0] < 10 * max(mean_w, 1e-3) * elapsed[0] else mean_w * elapsed[0]
    energy = np.maximum(energy, 0.0)
    hole = np.append(False, np.diff(arrival) - elapsed[1:] > HOLE_SHARE * elapsed[1:])
    end = _ends(arrival, elapsed, hole)
    start = end - elapsed
    start[1:] = np.where(hole[1:], np.maximum(start[1:], end[:-1]), end[:-1])
    t_s, kept, guess = _with_holes(start, end, hole, energy)
    return Edges(
        t_s=t_s,
        energy_j=np.append(0.0, np.cumsum(kept)),
        slack_s=np.full(len(t_s), float(np.median(arrival - end))),
        covered=~guess,
        known=~guess,
        spread_j=np.where(guess, kept, 0.0),
        period_s=float(np.median(elapsed)),
        locked=True,
    )


def _ends(arrival: Float64, elapsed: Float64, hole: np.ndarray) -> Float64:
    """End of each frame: sum of elapsed times plus the least delay nearby, restarted after each hole."""
    run = np.cumsum(hole)
    clock = np.cumsum(elapsed)
    delay = arrival - clock
    end = np.empty(len(arrival))
    for part in np.split(np.arange(len(arrival)), np.flatnonzero(np.diff(run)) + 1):
        own = delay[part]
        half = DELAY_WINDOW // 2
        padded = np.pad(own, half, mode="edge")
        least = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).min(axis=1)
        end[part] = clock[part] + least
    return np.maximum.accumulate(end)


def _with_holes(
    start: Float64, end: Float64, hole: np.ndarray, energy: Float64
) -> tuple[Float64, Float64, np.ndarray]:
    """Edges of frames and of the holes between them, each interval's energy, and which are holes."""
    length = end - start
    power = np.divide(energy, length, out=np.zeros_like(energy), where=length > 0)
    before = np.flatnonzero(hole)
    hole_s = start[before] - end[before - 1]
    t_s = np.insert(np.append(start[0], end), before + 1, start[before])
    kept = np.insert(energy, before, (power[before] + power[before - 1]) / 2 * hole_s)
    guess = np.insert(np.zeros(len(energy), bool), before, True)
    real = np.append(True, np.diff(t_s) > 0)
    merged = real[1:]
    return t_s[real], kept[merged], guess[merged]
