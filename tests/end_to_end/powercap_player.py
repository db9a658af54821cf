"""Plays a powercap counter in real time: energy follows the CPU time of processes below a folder, plus idle power.

Run as a process: `python powercap_player.py TREE IDLE_W BUSY_W`. It advances `package-0` of TREE every millisecond or
so by IDLE_W plus BUSY_W for each core that the machine keeps busy, as a real package would.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil


def play(tree: Path, idle_w: float, busy_w: float) -> None:
    """Advance the counter until killed."""
    path = tree / "intel-rapl:0" / "energy_uj"
    energy_uj = float(path.read_text())
    last_s, last_busy_s = time.monotonic(), busy_s()
    with path.open("r+b") as file:
        while True:
            time.sleep(0.002)
            now_s, now_busy_s = time.monotonic(), busy_s()
            energy_uj += 1e6 * (idle_w * (now_s - last_s) + busy_w * max(0.0, now_busy_s - last_busy_s))
            last_s, last_busy_s = now_s, now_busy_s
            file.seek(0)
            file.write(b"%-20d\n" % round(energy_uj))
            file.flush()


def busy_s() -> float:
    """CPU seconds that all processes of the machine have used."""
    times = psutil.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    play(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
