"""Several sources of one run added up: never a measurement with an estimate, nor a scope with what contains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.records import BadSamplesError, Float64, SourceEnergy


@dataclass(frozen=True, slots=True)
class SourceSum:
    """Energy of all sources of one scope, J; query columns are aligned with the queries of the run."""

    scope: str
    estimated: bool
    source_ids: tuple[str, ...]
    device_joules: float
    attributed_joules: float
    unattributed_joules: float
    joules: Float64
    """NaN where any of the sources has no joules of the query: a partial sum would pass for a whole one."""
    joules_low: Float64
    joules_high: Float64
    coverage: Float64
    """The least covered source's."""


def sum_sources(energies: Sequence[SourceEnergy], contained_in: Mapping[str, str]) -> list[SourceSum]:
    """Add up sources by scope, measured and estimated ones apart.

    Bounds add linearly: sensors of one make err to one side together.

    Args:
        energies: sources of one run, all over the same queries.
        contained_in: source id to the id of the source whose energy includes it; such a source is left out
            where the one that includes it is among `energies`.

    Raises:
        BadSamplesError: the sources do not have the same number of queries.
    """
    present = {energy.source_id for energy in energies}
    groups: dict[tuple[str, bool], list[SourceEnergy]] = {}
    for energy in energies:
        if contained_in.get(energy.source_id, "") not in present:
            groups.setdefault((energy.scope, energy.energy_source == "estimated"), []).append(energy)
    return [_sum(scope, estimated, group) for (scope, estimated), group in groups.items()]


def _sum(scope: str, estimated: bool, group: Sequence[SourceEnergy]) -> SourceSum:
    sizes = {len(energy.queries.joules) for energy in group}
    if len(sizes) > 1:
        names = ", ".join(energy.source_id for energy in group)
        raise BadSamplesError(f"sources {names} were measured over different queries and cannot be added")
    return SourceSum(
        scope=scope,
        estimated=estimated,
        source_ids=tuple(energy.source_id for energy in group),
        device_joules=sum(energy.device_joules for energy in group),
        attributed_joules=sum(energy.attributed_joules for energy in group),
        unattributed_joules=sum(energy.unattributed_joules for energy in group),
        joules=np.sum([energy.queries.joules for energy in group], axis=0),
        joules_low=np.sum([energy.queries.joules_low for energy in group], axis=0),
        joules_high=np.sum([energy.queries.joules_high for energy in group], axis=0),
        coverage=np.min([energy.queries.coverage for energy in group], axis=0),
    )
