"""Opening outcomes by a file's name, a folder of a published set, or a store's URL."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.engines import DEFAULT_ENGINE, READS_PARQUET
from harness_analysis.outcomes.from_store import answers_in_store
from harness_analysis.outcomes.public_sets import read_public_set
from harness_analysis.outcomes.table import Outcomes

FILE_KINDS = (".parquet", ".csv", ".jsonl", ".json")
STORE_SCHEMES = ("sqlite:", "postgresql:", "postgresql+")


def open_outcomes(source: str | Path, *, engine: str = DEFAULT_ENGINE, job: str | None = None) -> Outcomes:
    """Read outcomes from wherever they are.

    Args:
        source: a .parquet, .csv or .jsonl file in long form; a folder with a published set (MMLU-Pro, zeroeval,
            LLMRouter, RouteLLM); or the URL of a store (`sqlite:///FILE`, `postgresql://...`).
        engine: where the analysis runs; see `connect_engine`.
        job: of a store, one job's answers only.

    Raises:
        OutcomesError: nothing there, no outcomes in it, or a job of what is no store.
        harness_store.errors.StoreError: a store that cannot be read.
    """
    name = str(source)
    if name.startswith(STORE_SCHEMES):
        from harness_analysis.reader import connect

        with connect(name) as reader:
            rows = answers_in_store(reader, job)
        if not rows.num_rows:
            whose = f"job {job}" if job else "any job"
            raise OutcomesError(f"{name}: no answer of {whose} is in this store")
        return Outcomes.from_arrow(rows, engine, name)
    if job is not None:
        raise OutcomesError(f"{name}: jobs are of a database; a file or a folder has none to choose")
    path = Path(source)
    if path.is_dir():
        found = read_public_set(path)
        if found is None:
            raise OutcomesError(f"{name}: no published set of outcomes in this folder")
        return Outcomes.from_arrow(found, engine, name)
    if not path.is_file():
        raise OutcomesError(f"{name}: no such file")
    if path.suffix == ".parquet" and engine.startswith(READS_PARQUET):
        return Outcomes.from_parquet(name, engine)
    rows = read_rows(path)
    if not rows.num_rows:
        raise OutcomesError(f"{name}: no outcomes in it")
    return Outcomes.from_arrow(rows, engine, name)


def read_rows(path: Path) -> pa.Table:
    """Return a file's rows.

    Raises:
        OutcomesError: a kind that is not known, or a file that is broken.
    """
    import polars as pl

    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path)
        if path.suffix == ".csv":
            import pyarrow.csv

            return pyarrow.csv.read_csv(path)
        if path.suffix in {".jsonl", ".json"}:
            read = pl.read_ndjson if path.suffix == ".jsonl" else pl.read_json
            return read(path).to_arrow()
    except (pa.ArrowInvalid, pl.exceptions.PolarsError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OutcomesError(f"{path}: cannot be read as {path.suffix[1:]}: {reason}") from None
    raise OutcomesError(f"{path}: outcomes are read from {', '.join(FILE_KINDS)}, a folder or a database URL")
