"""What the store refuses, each as one plain sentence that says what to do."""

from __future__ import annotations


class StoreError(Exception):
    """Base of everything the store refuses."""


class StoreUnreachableError(StoreError):
    """The database cannot be opened: no such file, no such server, not allowed."""


class NotOurDatabaseError(StoreError):
    """The file is no database, or the database belongs to another program."""


class NewerDatabaseError(StoreError):
    """The database was migrated by a newer version of this program."""


class OlderDatabaseError(StoreError):
    """The database needs a migration, and the caller only reads."""

    def __init__(self, message: str, revision: str | None = None) -> None:
        """Say what is wrong, and remember the database's revision."""
        super().__init__(message)
        self.revision = revision


class UnknownJobError(StoreError, LookupError):
    """No job has this id."""


class UnknownMethodError(StoreError, LookupError):
    """A job has no verdicts by this method."""


class UnknownRunError(StoreError, LookupError):
    """No run has this id."""


class UnknownAgentError(StoreError, LookupError):
    """No agent has this id or name."""


class UnknownDatasetError(StoreError, LookupError):
    """No dataset has this id or name."""


class DuplicateDatasetError(StoreError, ValueError):
    """A dataset of this name exists with other rows."""


class DatasetInUseError(StoreError):
    """A dataset that jobs asked their queries from cannot be dropped."""


class NotOwnerError(StoreError):
    """The dataset was imported by somebody else."""


class RemovedAgentError(StoreError):
    """The agent was removed from the fleet and may not come back under its id."""


class DuplicateNameError(StoreError):
    """Another live agent has the name."""


class TokenRefusedError(StoreError):
    """A join token that is unknown, expired, used or revoked, or that may not have what it asks for."""


class UnknownCredentialError(StoreError, LookupError):
    """No token, certificate or subject has this id."""


class BadSegmentError(StoreError, ValueError):
    """Sample columns that cannot be stored, or a stored payload that cannot be read."""
