"""Who makes settled figures change, and why: told where a window becomes stale, noted where its row is rewritten."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from ..kernel.types import Why
from ..models import StaleWindow
from . import rows

__all__ = ["COLLECTOR", "Cause", "acting_as", "by_command", "waiting", "who"]

COLLECTOR = "collector"

WHO_LENGTH = 150
"""Of the column, and of a user's name in Django."""

_who: ContextVar[str] = ContextVar("listen_stats_who", default=COLLECTOR)


class Cause(NamedTuple):
    """Why, and by whom."""

    why: Why
    who: str


class Waiting(NamedTuple):
    """A window that waits to be computed again, in milliseconds, and what made it stale."""

    started_ms: int
    ended_ms: int
    cause: Cause


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """What becomes stale inside is noted as of ``name``. Of a mail address, the part before the sign."""
    token = _who.set(name.partition("@")[0][:WHO_LENGTH])
    try:
        yield
    finally:
        _who.reset(token)


def who() -> str:
    """In whose name it is done: the collector's, unless told."""
    return _who.get()


def by_command(name: str, given_by: str = "") -> str:
    """How a command is called in notes: with who gave it; where nobody is told, the system's user if it knows one."""
    try:
        return f"command {name} by {given_by or getpass.getuser()}"
    except (KeyError, OSError, ImportError):
        return f"command {name}"


def waiting(station_id: int, started_ms: int, ended_ms: int) -> list[Waiting]:
    """What made figures within ``[started_ms, ended_ms)`` stale and was not worked off yet, in its order."""
    found = rows.fetch(
        f"SELECT started, ended, why, who FROM {rows.table(StaleWindow)}"
        " WHERE kind = %s AND station_id = %s AND started < %s AND ended > %s ORDER BY id",
        [StaleWindow.AUDIENCE, station_id, ended_ms, started_ms],
    )
    return [Waiting(start_ms, end_ms, Cause(Why(why), name)) for start_ms, end_ms, why, name in found]
