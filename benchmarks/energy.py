"""Remake every figure of the energy code: docs/energy-figures.md and docs/figures/energy-error.png.

Run it as `python -m benchmarks.energy` (`make bench-energy`); about a minute on one core.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.energy_recordings import recording_rows
from benchmarks.energy_rows import OURS, PEERS, Error, Row, rig_rows, window_errors
from benchmarks.energy_scale import scale_rows
from benchmarks.machine import speed

REPOSITORY = Path(__file__).resolve().parents[1]
LENGTHS_S = (0.12, 0.17, 0.25, 0.37, 0.55, 1.03, 2.07, 5.03, 10.06, 30.04)
"""None a multiple of the tick: those flatter a counter that is read at the edges."""
FLOOR_PERCENT = 1e-4


def run() -> bool:
    """Write the table and the plot; True when every figure is met."""
    rng = np.random.default_rng(20261122)
    rows: list[Row] = []
    for row in (*rig_rows(rng), *recording_rows(), *scale_rows()):
        rows.append(row)
        print(f"{_verdict(row):8} {row.what}: {row.ours}")
    write_table(rows, REPOSITORY / "docs" / "energy-figures.md")
    errors = {length: window_errors(rng, length, repeats=6)[0] for length in LENGTHS_S}
    plot_errors(errors, REPOSITORY / "docs" / "figures" / "energy-error.png")
    return all(row.met is not False for row in rows)


def write_table(rows: Iterable[Row], path: Path) -> None:
    """Write the figures as a Markdown table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Energy: figures",
        "",
        "Made by `make bench-energy` "
        f"({platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, one core; {speed()}). "
        "Errors are median / 95th percentile of the absolute error / bias, against the known energy of a simulated "
        "device; the same polls go to every method. Rows on recordings need the recordings beside the checkout.",
        "",
        "![Error against window length](figures/energy-error.png)",
        "",
        "| what | to reach | ours | met | others on the same data |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {row.what} | {row.target} | {row.ours} | {_verdict(row)} | {row.others} |" for row in rows]
    path.write_text("\n".join(lines) + "\n")


def plot_errors(errors: dict[float, dict[str, Error]], path: Path) -> None:
    """Plot median and 95th percentile against window length, one colour per method."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    lengths = list(errors)
    for name in (OURS, *PEERS):
        label = "ours: straight between locked ticks" if name == OURS else name
        for axis, what in zip(axes, ("median", "p95"), strict=True):
            values = [max(getattr(errors[length][name], what), FLOOR_PERCENT) for length in lengths]
            axis.loglog(lengths, values, marker="o", label=label, linewidth=2 if name == OURS else 1)
    for axis, title in zip(axes, ("median error", "95th percentile of the error"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("window length, s")
        axis.grid(visible=True, which="both", alpha=0.3)
    axes[0].set_ylabel("relative error, %")
    axes[1].legend(fontsize=8)
    figure.suptitle(
        "Counter that ticks every 100 ms, steps of 80 to 400 W, dithered polls 40 ms apart", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _verdict(row: Row) -> str:
    return {True: "yes", False: "no", None: "shown"}[row.met]


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
