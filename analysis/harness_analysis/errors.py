"""What can be wrong with what an analyst gives: one sentence each, with the way out."""

from __future__ import annotations


class AnalysisError(Exception):
    """An analysis that cannot be done as asked; the message is one sentence for people."""


class OutcomesError(AnalysisError):
    """Outcomes that cannot be read, or lack what an analysis needs."""


class RoutingError(AnalysisError):
    """A router or a setting of one that makes no sense on these outcomes."""


class EmbeddingError(AnalysisError):
    """Texts that cannot be turned into vectors, or an embedding that is not installed or not known."""


class DatasetError(AnalysisError):
    """A file, a mapping or a step that cannot make a dataset; the message names file, row and field."""


class HubError(AnalysisError):
    """A data set of a hub that cannot be reached from here."""


class PublishingError(AnalysisError):
    """A benchmark that cannot be published, or a published one that is not whole; the message names what is wrong."""
