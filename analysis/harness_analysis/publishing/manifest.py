"""The manifest of a published benchmark: every file with its hash, and what is in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST = "manifest.json"
CARD = "README.md"
OUTCOMES = "outcomes.parquet"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedFile(_Strict):
    """A file of the folder."""

    path: str
    """Below the folder, with `/` between parts."""
    sha256: str
    size_bytes: int = Field(ge=0)
    rows: int | None = None
    """Of a Parquet file."""


class PublishedDataset(_Strict):
    """A dataset as it is stored: imported again it has the same content hash."""

    name: str
    file: str
    rows: int
    content_hash: str
    origin: str
    licence: str | None = None
    licences: dict[str, int]
    """Rows by the licence that each carries."""
    parent: str | None = None
    mapping: dict[str, Any] | None = None
    reports: dict[str, dict[str, Any] | None]
    """What the steps counted that led here: of this dataset and of those it was made from, by their names."""


class PublishedJob(_Strict):
    """A job's answers, verdicts and telemetry."""

    job_id: str
    name: str
    state: str
    energy: str
    evaluation: str
    dataset: str
    results: str
    verdicts: str


class Manifest(_Strict):
    """What is in the folder."""

    format: Literal["joule-harness benchmark"] = "joule-harness benchmark"
    version: Literal[1] = 1
    datasets: list[PublishedDataset]
    jobs: list[PublishedJob]
    files: list[PublishedFile]


def sha256_of(path: Path) -> str:
    """Return the hash of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
