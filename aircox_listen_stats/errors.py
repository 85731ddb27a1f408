"""The one tree of errors. Each says what was wrong, what was seen, what is allowed."""

from __future__ import annotations

import traceback


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


def place_of(error: BaseException) -> str:
    """Kind and place of an error, without its text, which may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
