"""The version that the coordinator states on the wire."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("joule-harness")
except PackageNotFoundError:  # run from a tree that is not installed
    VERSION = "0+unknown"
