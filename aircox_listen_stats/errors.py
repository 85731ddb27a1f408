"""The one tree of errors. Each says what was wrong, what was seen, what is allowed."""

from __future__ import annotations


class ListenStatsError(Exception):
    """Base of every error that this app raises on purpose."""


class ConfigurationError(ListenStatsError):
    """A setting is missing, unknown or of the wrong kind."""


class SourceUnavailable(ListenStatsError):
    """A source could not be heard. Nothing is known about its listeners; nobody ended."""


class MalformedRecord(ListenStatsError):
    """A line, event or answer that does not follow its format; it is counted, not stored.

    ``reason`` is a short stable code for the counts: no value of the record.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class AircoxMissing(ListenStatsError):
    """No aircox is installed, or not one that this app knows."""
