"""What can go wrong with an engine; every message is one plain sentence with the way out."""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything an engine adapter or a running engine refuses.

    `retryable` tells whether the same task could succeed in another attempt, perhaps on another machine.
    """

    retryable = False


class EngineArgumentError(EngineError):
    """An entry of `engine_args` is unknown, of the wrong type or out of range."""


class UnknownEngineError(EngineError):
    """The job names an engine that nothing here provides."""

    retryable = True


class EngineUnavailableError(EngineError):
    """The engine is known but cannot run on this machine."""

    retryable = True


class ModelNotFoundError(EngineError):
    """The model's source leads to nothing on this machine."""

    retryable = True


class NotAModelError(EngineError):
    """The file is there but holds no model that the engine can load."""


class EngineStartError(EngineError):
    """The engine process ended, or was not ready in time, before it answered."""

    retryable = True


class EngineCrashedError(EngineError):
    """The engine process ended while it was in use."""

    retryable = True
