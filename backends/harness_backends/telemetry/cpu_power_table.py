"""Watts per busy logical CPU: a small named table, or the figure that the admin gives."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

WATTS_VARIABLE = "HARNESS_WATTS_PER_CORE"


@dataclass(frozen=True, slots=True)
class CpuPower:
    """Watts that one busy logical CPU stands for, and where the figure comes from."""

    watts_per_core: float
    origin: str


@dataclass(frozen=True, slots=True)
class _Entry:
    pattern: str
    """Regular expression on the CPU's model name."""
    tdp_w: float
    logical_cpus: int
    product: str


# Thermal design power and threads as the makers' public product pages state them (AMD product
# specifications, Intel ARK). A family is represented by one widely used member.
_TABLE = (
    _Entry(r"EPYC 9[0-9]{2}5", 500, 384, "AMD EPYC 9965 (Turin)"),
    _Entry(r"EPYC 9[0-9]{2}4", 360, 192, "AMD EPYC 9654 (Genoa)"),
    _Entry(r"EPYC 7[0-9F]{2}3", 280, 128, "AMD EPYC 7763 (Milan)"),
    _Entry(r"EPYC 7[0-9FH]{2}2", 225, 128, "AMD EPYC 7742 (Rome)"),
    _Entry(r"Threadripper.* 7[0-9]{3}", 350, 128, "AMD Ryzen Threadripper PRO 7985WX"),
    _Entry(r"Ryzen 9 [79]9", 170, 32, "AMD Ryzen 9 7950X"),
    _Entry(r"Ryzen 7 [79]7", 105, 16, "AMD Ryzen 7 7700X"),
    _Entry(r"Platinum 8[45]", 350, 112, "Intel Xeon Platinum 8480+"),
    _Entry(r"Platinum 83|Gold [56]3", 270, 80, "Intel Xeon Platinum 8380"),
    _Entry(r"Platinum 8[12]|Gold [56][12]", 205, 56, "Intel Xeon Platinum 8280"),
    _Entry(r"i9-1[34]9", 125, 32, "Intel Core i9-13900K"),
    _Entry(r"i7-1[34]7", 125, 24, "Intel Core i7-13700K"),
    _Entry(r"i7-11[0-9]{2}G7", 28, 8, "Intel Core i7-1185G7"),
)

_UNKNOWN_W_PER_CORE = 3.0
"""About the middle of the table (0.9 to 6.6 W per logical CPU); used where no entry matches, and said so."""


class BadWattsError(ValueError):
    """The watts-per-core figure that was given is not a positive number."""


def watts_per_core(model_name: str, given: float | None = None) -> CpuPower:
    """Return the watts of one busy logical CPU of this model and the origin of the figure.

    Args:
        model_name: the CPU's name as the operating system prints it.
        given: watts per logical CPU from a flag; wins over the environment, which wins over the table.

    Raises:
        BadWattsError: the figure given is not a positive number; the message names where it was set.
    """
    if given is not None:
        return CpuPower(_positive(str(given), "the watts-per-core flag"), "given by flag")
    text = os.environ.get(WATTS_VARIABLE, "")
    if text:
        return CpuPower(_positive(text, WATTS_VARIABLE), f"given by {WATTS_VARIABLE}")
    for entry in _TABLE:
        if re.search(entry.pattern, model_name):
            origin = f"table: {entry.product}, {entry.tdp_w:g} W TDP / {entry.logical_cpus} logical CPUs"
            return CpuPower(entry.tdp_w / entry.logical_cpus, origin)
    return CpuPower(_UNKNOWN_W_PER_CORE, f"default: no table entry for '{model_name}'")


def _positive(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1000:
        msg = f"{where} is '{text}'; it must be the watts of one busy logical CPU, for example 3.5"
        raise BadWattsError(msg)
    return value
