"""What an import is asked to do, what it reads, and what it tells afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..errors import ListenStatsError
from ..kernel.arrays import Bools, Ints
from .blurs import Compared

__all__ = ["Chunk", "ImportRefused", "Imported", "Log", "Plan", "Progress"]


class ImportRefused(ListenStatsError):
    """An import would count listening twice, or names something that is not there."""


class Chunk(Protocol):
    """A block of a log in columns; see sources.logblocks.LogColumns."""

    offset: int
    started_ms: Ints
    ended_ms: Ints
    stream: Ints
    ip: Ints
    agent: Ints
    ips: list[str]
    agents: list[str]
    is_afresh: bool
    counts: dict[str, int]
    first_ms: int
    last_ms: int


class Log(Protocol):
    """A log that can be read from any offset, any number of times."""

    label: str
    size: int  # bytes on disk

    def first_line(self) -> bytes: ...
    def first_ms(self) -> int: ...
    def length(self) -> int: ...
    def digest(self, length: int, key: bytes) -> str | None: ...
    def columns(self, streams: Mapping[str, str], *, offset: int) -> Iterator[Chunk]: ...
    def long_columns(self, streams: Mapping[str, str], *, offset: int, seconds: int) -> Iterator[Chunk]: ...


Progress = Callable[[Log, Chunk], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to import under which name. ``mounts`` maps a mount to the slug of a stream.

    A session belongs to the window ``[from_ms, to_ms)`` in which it ENDS: that
    is where the log tells of it.
    """

    source: str
    mounts: Mapping[str, str]
    replace: bool = False
    from_ms: int | None = None
    to_ms: int | None = None
    dry_run: bool = False

    def takes(self, ended_ms: Ints) -> Bools:
        """Which sessions end inside the window."""
        inside = np.ones(len(ended_ms), dtype=np.bool_)
        if self.from_ms is not None:
            inside &= ended_ms >= self.from_ms
        if self.to_ms is not None:
            inside &= ended_ms < self.to_ms
        return inside

    def name_of(self, slug: str) -> str:
        """The stream's name in the ledger, with the window where there is one."""
        if self.from_ms is None and self.to_ms is None:
            return slug
        return f"{slug} {'' if self.from_ms is None else self.from_ms}-{'' if self.to_ms is None else self.to_ms}"

    def meets(self, window: str) -> bool:
        """Does a window of the ledger overlap this one?"""
        start, end = window.split("-")
        return (self.to_ms is None or not start or int(start) < self.to_ms) and (
            self.from_ms is None or not end or self.from_ms < int(end)
        )

    def clipped(self, start_ms: int, end_ms: int) -> tuple[int, int] | None:
        """The part of a stretch that is inside the window; None where it is empty."""
        if self.from_ms is not None:
            start_ms = max(start_ms, self.from_ms)
        if self.to_ms is not None:
            end_ms = min(end_ms, self.to_ms)
        return (start_ms, end_ms) if end_ms > start_ms else None


@dataclass(slots=True, kw_only=True)
class Imported:
    """What became of the lines, and what was written."""

    counts: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    outside: int = 0  # sessions that end outside the window
    replaced: int = 0
    straddling: int = 0  # sessions of another source across the border of what was replaced: left whole
    already: list[str] = field(default_factory=list)  # logs of which nothing was new
    shared: list[tuple[str, Compared]] = field(default_factory=list)  # streams most of whose listeners had one address
