"""What stops an agent; every message is one plain sentence with the way out."""

from __future__ import annotations


class AgentError(Exception):
    """Base of everything an agent refuses to start or to go on with."""


class StateDirError(AgentError):
    """The state directory cannot be used: not writable, damaged, or in use by another agent."""


class RefusedError(AgentError):
    """The coordinator does not accept this agent."""


class UnreachableError(AgentError):
    """The coordinator was not there within the time the agent was told to wait."""


class EnrolmentError(AgentError):
    """This machine has no usable certificate and cannot get one."""
