"""Families of models: which model belongs to which, by a file or by how names begin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from harness_analysis.descriptive.solvability import By, joint_coverage
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.table import Outcomes

EVERY_FAMILY = "all together"


def families_of(spec: str, models: Sequence[str]) -> dict[str, list[str]]:
    """Return the models of each family.

    Args:
        spec: a .json file with an object of model: family, a .csv file with the columns `model` and `family`, or
            beginnings of names with commas, upper and lower case alike; a model belongs to the longest that fits it.
        models: there are.

    Raises:
        OutcomesError: a file that cannot be read or names no model, a beginning that no model has.
    """
    path = Path(spec)
    if path.suffix in {".json", ".csv"}:
        named = _read(path)
        found: dict[str, list[str]] = {}
        for model in models:
            if model in named:
                found.setdefault(named[model], []).append(model)
        if not found:
            raise OutcomesError(f"{spec}: names no model that is there; there is {', '.join(models[:12])}")
        return found
    beginnings = [word.strip() for word in spec.split(",") if word.strip()]
    found = {beginning: [] for beginning in beginnings}
    for model in models:
        fits = [b for b in beginnings if model.lower().startswith(b.lower())]
        if fits:
            found[max(fits, key=len)].append(model)
    empty = [b for b, members in found.items() if not members]
    if empty or not found:
        raise OutcomesError(
            f"--families {spec}: no model begins with {', '.join(empty) or 'nothing'};"
            f" there is {', '.join(models[:12])}"
        )
    return found


def _read(path: Path) -> dict[str, str]:
    import polars as pl

    try:
        if path.suffix == ".json":
            named = json.loads(path.read_text(encoding="utf-8"))
        else:
            frame = pl.read_csv(path)
            named = dict(zip(frame["model"].to_list(), frame["family"].to_list(), strict=True))
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in named.items()):
            raise ValueError("a model or a family is no text")
    except (OSError, ValueError, AttributeError, pl.exceptions.PolarsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OutcomesError(
            f"{path}: no families in it ({reason}); write an object of model: family, or the columns model and family"
        ) from None
    return named


def coverage_by_family(
    outcomes: Outcomes, families: Mapping[str, Sequence[str]], by: By | None = None
) -> pa.Table:
    """Return joint coverage within each family and of all of them together (TrafficBench section 5.1, tables 2 and 3).

    Args:
        outcomes: with verdicts and model sizes.
        families: models of each; models of none are left out of all rows.
        by: split by dataset or domain as well.

    Raises:
        OutcomesError: a family without a model of known size, or what `joint_coverage` refuses.
    """
    pools = dict(families)
    if len(pools) > 1:
        pools[EVERY_FAMILY] = [model for members in families.values() for model in members]
    tables = []
    for family, members in pools.items():
        table = joint_coverage(outcomes.select(models=[_exactly(model) for model in members]), by)
        tables.append(table.add_column(0, "family", pa.array([family] * table.num_rows)))
    return pa.concat_tables(tables)


def _exactly(model: str) -> str:
    """Return a pattern that fits this name alone: brackets and stars in it are no patterns."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in model)
