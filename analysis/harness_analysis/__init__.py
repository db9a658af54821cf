"""Reads the store: results, samples, jobs and outcomes as data frames; nothing here talks to a coordinator."""

from harness_analysis.frame import Frame
from harness_analysis.reader import StoreReader, connect

__all__ = ["Frame", "StoreReader", "connect"]
