"""Data sets of the Hugging Face hub, streamed row by row where the hub can be reached."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from harness_analysis.datasets.records import Record
from harness_analysis.errors import DatasetError, HubError

DEFAULT_SPLIT = "train"


def read_hub(name: str, split: str = DEFAULT_SPLIT) -> Iterator[Record]:
    """Yield the rows of a data set on the hub; nothing is kept on disk but the library's own cache.

    Args:
        name: `owner/name`, or `owner/name:configuration`.
        split: which part of it.

    Raises:
        DatasetError: the package `datasets` is not installed, or the hub has no such set, configuration or split.
        HubError: the hub cannot be reached, or wants an account.
    """
    try:
        library: Any = importlib.import_module("datasets")
    except ImportError:
        raise DatasetError(
            f"hub:{name}: reading from the Hugging Face hub needs the package datasets:"
            " pip install 'joule-harness[hub]', or download the files and import them"
        ) from None
    path, _, configuration = name.partition(":")
    try:
        rows = library.load_dataset(path, configuration or None, split=split, streaming=True)
        for number, fields in enumerate(rows, start=1):
            yield Record(f"row {number}", dict(fields))
    except GeneratorExit:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises its own, requests', fsspec's and plain errors
        raise _explained(name, split, error) from None


def _explained(name: str, split: str, error: Exception) -> DatasetError | HubError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    what = " ".join(str(error).split())[:200] or type(error).__name__
    if kinds & {"GatedRepoError", "DatasetNotFoundError", "RepositoryNotFoundError"} and "gated" in what:
        return HubError(f"hub:{name}: the set wants an account that accepted its terms: {what}")
    if kinds & {"OSError", "ConnectionError", "HTTPError", "TimeoutException", "TransportError"}:
        return HubError(
            f"hub:{name}: the Hugging Face hub cannot be reached from here ({what});"
            " download the files elsewhere and import them"
        )
    return DatasetError(f"hub:{name}, split {split}: cannot be read: {what}")
