"""A log file, followed through its rotations: each line is heard once, in order, whatever happens to the file.

The place in the log travels in the source's cursor. A file is known by its
inode and by a hash of its first line, in which no address and no agent is.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, MalformedRecord, SourceUnavailable
from ..kernel.types import MS
from .base import Heard, PullSource, Report

__all__ = ["HEAD_BYTES", "MAX_LINE_BYTES", "PULL_BYTES", "FollowedLog", "Hearing", "Place", "first_stamp"]

MAX_LINE_BYTES = 64 * 1024
"""Icecast's lines have 1023 characters at most; other writers' lines are longer."""

HEAD_BYTES = MAX_LINE_BYTES + 2
"""Enough for the first line, which tells a log from the one that took its place."""

PULL_BYTES = 192 * 1024
"""What one pull reads at most: some 1,000 lines, one transaction of the collector. It takes a third of a
second, for which aircox's Monitor waits on SQLite."""

REMEMBERED_FILES = 16
"""So many finished files are remembered, so that none is read twice."""

StampOf = Callable[[bytes], int]


def first_stamp(head: bytes, stamp_of: StampOf) -> int:
    """The first stamp in the whole lines of ``head``, epoch seconds; 0 where none has one."""
    for line in head.split(b"\n")[:-1]:
        try:
            return stamp_of(line)
        except MalformedRecord:
            continue
    return 0


class Hearing(ABC):
    """What one pull makes of the lines that it reads. ``counts`` are by reason."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {"read": 0, "kept": 0}

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    @abstractmethod
    def hear(self, line: bytes) -> None:
        """Takes a line without its newline; what is wrong with it is counted."""

    @abstractmethod
    def report(self, place: Place, *, more: bool) -> Report:
        """What was heard up to ``place``, where the next pull goes on; ``more`` waits in the log."""


class FollowedLog(PullSource):
    """A source that follows a log file. Its kind says what a line is, and what is heard in it."""

    options = {"path": str, "start_at": str, "poll_seconds": (int, float)}
    _since_ms: int | None = None

    @abstractmethod
    def stamp_of(self, line: bytes) -> int:
        """The epoch second of a line. Raises MalformedRecord."""

    @abstractmethod
    def open_part(self, line: bytes) -> bytes:
        """What in a line is no one's address or agent, and tells it from others. Never raises."""

    @abstractmethod
    def hearing(self, cursor: Mapping[str, Any], *, now_ms: int) -> Hearing:
        """Where this pull's lines go."""

    def configure(self, *, path: str = "", start_at: str = "end", poll_seconds: float = 5.0) -> None:
        """Takes the options; raises ConfigurationError. The file is not opened yet."""
        if not path or not os.path.isabs(path):
            raise ConfigurationError(f"Option 'path' of source {self.name!r} must be an absolute path.")
        if start_at not in ("end", "beginning"):
            raise ConfigurationError(
                f"Option 'start_at' of source {self.name!r} is {start_at!r}. Allowed: end, beginning."
            )
        if not 0 < poll_seconds <= 3600:
            raise ConfigurationError(
                f"Option 'poll_seconds' of source {self.name!r} is {poll_seconds!r}; "
                "expected 0 to 3600 seconds, 0 excluded."
            )
        self.interval_seconds = float(poll_seconds)
        self._path = Path(path)
        self._start_at = start_at
        self._was_absent = False

    def start_from(self, at_ms: int) -> None:
        """Has a first pull begin with the file, rotated or not, that was written to at this instant, or the oldest."""
        self._since_ms = at_ms

    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        """The lines that came since ``cursor``. Raises SourceUnavailable."""
        try:
            return self._pull(dict(cursor), now_ms)
        except OSError as error:
            self._was_absent = self._was_absent or isinstance(error, FileNotFoundError)
            raise SourceUnavailable(
                f"Source {self.name!r}: the log at its 'path' cannot be read ({type(error).__name__}). "
                "The collector's user needs to read the file and to search its folder."
            ) from None

    def _pull(self, cursor: dict[str, Any], now_ms: int) -> Report:
        hearing = self.hearing(cursor, now_ms=now_ms)
        place = Place(cursor, now_ms, self)
        if not cursor and self._since_ms is not None:
            place.begin(place.written_at(self._path, self._since_ms), at_end=False)
        elif not cursor:
            place.begin(place.seen(self._path), at_end=self._start_at == "end" and not self._was_absent)
        budget = PULL_BYTES
        while budget > 0:
            current = place.seen_or_none(self._path)
            file = place.find(current, self._path)
            if file is None:
                if current is None:
                    raise FileNotFoundError
                if became := place.lose(current, self._path):
                    hearing.count(became)
                place.turn_to(current, self._path)
                continue
            is_over = current is not None and file.inode != current.inode and place.is_left(current, self._path)
            taken = _take(place, hearing, file, budget, is_over=is_over)
            budget -= taken
            if taken == 0:
                if not is_over or current is None:
                    return hearing.report(place, more=False)
                place.turn_to(current, self._path)
        return hearing.report(place, more=True)


def _take(place: Place, hearing: Hearing, file: _File, budget: int, *, is_over: bool) -> int:
    """How many bytes of whole lines were read; a last line without newline only where the file is over."""
    with file.path.open("rb") as log:
        log.seek(place.offset)
        block = log.read(max(budget, HEAD_BYTES))
    place.size = max(file.size, place.offset + len(block))
    end = block.rfind(b"\n") + 1
    if not end and block and is_over:
        hearing.count("refused_unfinished")  # the server was killed while it wrote
    if not end and len(block) > MAX_LINE_BYTES:
        end = len(block)  # an endless line is refused
    for line in block[:end].split(b"\n"):
        if line:
            hearing.hear(line)
    place.offset += end
    if end and not place.print:
        place.name(file)
    return end


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file as it lies there now. ``print`` names its first line, '' until that is complete."""

    path: Path
    inode: str
    size: int
    print: str
    first_s: int


class Place:
    """Where in which file the following stands. Up to ``since_ms`` the log was heard before."""

    def __init__(self, cursor: Mapping[str, Any], now_ms: int, log: FollowedLog) -> None:
        self.inode = str(cursor.get("inode", ""))
        self.print = str(cursor.get("print", ""))
        self.first_s = int(cursor.get("first_s", 0))
        self.offset = int(cursor.get("offset", 0))
        self.size = int(cursor.get("size", -1))  # of the file when it was looked at last
        self.since_ms = int(cursor.get("at_ms", now_ms))
        self.done: list[str] = list(cursor.get("done", ()))
        self._is_gap = False
        self._log = log

    def cursor(self, at_ms: int) -> dict[str, Any]:
        """What finds this place again; up to ``at_ms`` the log was heard."""
        return {
            "inode": self.inode,
            "print": self.print,
            "first_s": self.first_s,
            "offset": self.offset,
            "size": self.size,
            "at_ms": at_ms,
            "done": self.done[-REMEMBERED_FILES:],
        }

    def heard(self, streams: Mapping[str, str], until_ms: int) -> list[Heard]:
        """The stretch that this pull has heard, of every stream."""
        since_ms = min(self.since_ms, until_ms)
        return [Heard(stream=slug, started_ms=since_ms, ended_ms=until_ms) for slug in sorted(set(streams.values()))]

    def begin(self, file: _File, *, at_end: bool) -> None:
        self.inode = file.inode
        self.name(file)
        self.offset = _behind_last_line(file) if at_end else 0
        if not at_end and file.print:
            self.since_ms = min(self.since_ms, file.first_s * MS)

    def name(self, file: _File) -> None:
        self.print, self.first_s = file.print, file.first_s

    def written_at(self, path: Path, at_ms: int) -> _File:
        """The file that was written to then: the last that began no later, else the oldest. Raises OSError."""
        files = [file for file in self._siblings(path) if file.print]
        files = sorted([*files, self.seen(path)], key=lambda one: one.first_s)
        return ([file for file in files if file.first_s * MS <= at_ms] or files[:1])[-1]

    def find(self, current: _File | None, path: Path) -> _File | None:
        """The file that is being read, wherever it lies now; None where it is gone, or others are to be read first."""
        is_begun = bool(self.print or self.offset)
        if not is_begun and current is not None and self._unread(current, path):
            return None  # it was empty, and has been written, copied and emptied since
        if current is not None and current.inode == self.inode and self._is(current):
            return current
        others = self._siblings(path)
        for file in others:
            if file.inode == self.inode and self._is(file):
                return file
        if self.print:
            for file in others:  # copytruncate: the copy goes on where we stood
                if self._is(file):
                    return file
        return None

    def _is(self, file: _File) -> bool:
        return file.size >= self.offset and (not self.print or file.print == self.print)

    def lose(self, current: _File, path: Path) -> str:
        """What it is counted as that what was being read is nowhere any more; '' where nothing of it was read yet.

        A file that was emptied, and lies there or beside it, has lost nothing where all that was seen of it was
        read. Else a file is lost, with what was not read of it: from then on nothing was heard.
        """
        if not (self.print or self.offset):
            return ""
        is_there = any(file.inode == self.inode for file in (current, *self._siblings(path)))
        if is_there and self.size == self.offset:
            return "truncated_files"
        self._is_gap = True
        return "lost_files"

    def turn_to(self, current: _File, path: Path) -> None:
        """Goes on with the oldest file that was not read yet: a rotated one, or the log itself."""
        if self.print:
            self.done.append(self.print)
        file = min(self._unread(current, path), key=lambda one: one.first_s, default=current)
        self.inode, self.offset, self.print = file.inode, 0, ""
        if file.print:  # else the last file that had a line still says which others are later
            self.name(file)
        if self._is_gap:
            self.since_ms = max(self.since_ms, file.first_s * MS)
            self._is_gap = False

    def is_left(self, current: _File, path: Path) -> bool:
        """Is another file written to since the one that is being read was rotated?"""
        return bool(current.print) or any(file.print != self.print for file in self._unread(current, path))

    def _unread(self, current: _File, path: Path) -> list[_File]:
        """The rotated files that come after the last one that was read, and before the log itself."""
        return [
            file
            for file in self._siblings(path)
            if file.print
            and file.print not in self.done
            and file.print != current.print
            and self.first_s <= file.first_s <= (current.first_s or file.first_s)
            and self.first_s
        ]

    def _siblings(self, path: Path) -> list[_File]:
        """The rotated files beside a log: its name with something behind it, not compressed."""
        found = []
        for entry in os.scandir(path.parent):
            if (
                entry.name.startswith(path.name)
                and entry.name != path.name
                and not entry.name.endswith((".gz", ".bz2", ".xz", ".zst"))
            ):
                file = self.seen_or_none(Path(entry.path))
                if file is not None:
                    found.append(file)
        return found

    def seen_or_none(self, path: Path) -> _File | None:
        try:
            return self.seen(path)
        except (FileNotFoundError, IsADirectoryError):
            return None

    def seen(self, path: Path) -> _File:
        """The file at ``path`` as it is now. Raises OSError."""
        with path.open("rb") as log:
            head = log.read(HEAD_BYTES)
            status = os.fstat(log.fileno())
        line, newline, _ = head.partition(b"\n")
        return _File(
            path=path,
            inode=f"{status.st_dev}:{status.st_ino}",
            size=status.st_size,
            print=self._print(line) if newline else "",
            first_s=first_stamp(head, self._log.stamp_of) or int(status.st_mtime),
        )

    def _print(self, line: bytes) -> str:
        """A hash of what is no one's address or agent in a line, and the line's length."""
        digest = hashlib.blake2b(self._log.open_part(line), digest_size=12)
        return f"{digest.hexdigest()}-{len(line)}"


def _behind_last_line(file: _File) -> int:
    with file.path.open("rb") as log:
        start = max(0, file.size - HEAD_BYTES)
        log.seek(start)
        return start + log.read(file.size - start).rfind(b"\n") + 1
