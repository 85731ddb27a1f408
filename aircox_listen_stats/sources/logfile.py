"""Icecast's access logs as files to import: read in blocks, a large one by a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import zlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import SourceUnavailable
from .accesslog import LogFile
from .ahead import ahead
from .follow import MAX_LINE_BYTES
from .logblocks import BlockReader, LogColumns

__all__ = ["BlockLog"]

BLOCK_BYTES = 2 * 1024 * 1024
"""What is read at once: some 12,000 lines, the columns of which stay in the processor's cache."""

OWN_PROCESS_BYTES = 64 * 1024 * 1024
"""Of a log with more than this to read, a process of its own reads."""

STARTING_BYTES = 32 * 1024 * 1024
"""So much is read while that process starts: it takes half a second."""

SCANNING = 2
"""Threads that look for long lines: the sweeps need no lock of Python's."""

BLOCKS_AHEAD = 32
"""So many blocks a reading process may be ahead of who stores them: some 20 MB of columns."""

STOP_SECONDS = 5.0
"""A reading process that has not ended so long after it was told to is killed."""

_NEWLINE, _RETURN, _NUL, _ZERO = b"\n\r\x000"


class BlockLog(LogFile):
    """A log file, plain or ``.gz``, that gives columns."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._disk_offset = 0

    def columns(self, streams: Mapping[str, str], *, offset: int = 0) -> Iterator[LogColumns]:
        """The log from ``offset`` on, block by block; see :class:`LogColumns`. Raises SourceUnavailable.

        A last line without its newline may still be written: it is counted, not
        read, and ``offset`` stays before it.
        """
        is_large = self.size - (offset if self._path.suffix != ".gz" else 0) > OWN_PROCESS_BYTES
        return self._told(streams, offset) if is_large else self._columns(streams, offset)

    def long_columns(self, streams: Mapping[str, str], *, offset: int = 0, seconds: int) -> Iterator[LogColumns]:
        """Only the lines whose last field is ``seconds`` or more, and a few others. The offsets are none."""
        reader = BlockReader(streams)
        with self._open() as log, ThreadPoolExecutor(SCANNING) as scanning:
            log.seek(offset)
            asked: deque[Future[bytes]] = deque()
            found = bytearray()
            for block, _ in _blocks(log, 0):
                asked.append(scanning.submit(_long_lines, block, seconds))
                if len(asked) > SCANNING:
                    found += asked.popleft().result()
                if len(found) > BLOCK_BYTES:
                    yield reader.read(bytes(found), 0)
                    found.clear()
            for one in asked:
                found += one.result()
            if found:
                yield reader.read(bytes(found), 0)

    def bytes_read(self) -> int:
        """How much of ``size`` the last reading has come through."""
        return self._disk_offset

    def _columns(self, streams: Mapping[str, str], offset: int, stop: int | None = None) -> Iterator[LogColumns]:
        """From ``offset`` on, to the end or to ``stop``, where a line begins."""
        reader = BlockReader(streams)
        with self._opened() as (log, raw):
            try:
                log.seek(offset)
                for block, end in _blocks(log, log.tell(), stop):
                    if block:
                        columns = reader.read(block, end)
                    else:
                        columns = LogColumns(offset=end, counts={"skipped_unfinished_line": 1})
                    columns.disk_offset = self._disk_offset = raw.tell()
                    yield columns
            except (OSError, EOFError, zlib.error) as error:
                raise self._unreadable(error) from None

    def _told(self, streams: Mapping[str, str], offset: int) -> Iterator[LogColumns]:
        """The columns as a process of its own reads them; while that starts, its first part is read here."""
        own = self._line_after(offset + STARTING_BYTES) if self._path.suffix != ".gz" else offset
        with _reading(self._path, dict(streams), own) as receiver, ahead(_received(receiver), BLOCKS_AHEAD) as told:
            if own > offset:
                yield from self._columns(streams, offset, own)
            try:
                for columns in told:
                    self._disk_offset = columns.disk_offset
                    yield columns
            except (EOFError, OSError) as error:
                raise self._unreadable(error) from None

    def _line_after(self, offset: int) -> int:
        """Where the first line behind ``offset`` begins."""
        with self._open() as log:
            log.seek(offset)
            log.readline()
            return log.tell()


def _blocks(log: IO[bytes], offset: int, stop: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines, each with the offset behind it; an empty one where a last line has no newline."""
    rest = b""
    left = sys.maxsize if stop is None else stop - offset
    while read := log.read(min(BLOCK_BYTES, left)):
        left -= len(read)
        end = read.rfind(b"\n") + 1
        block = b"".join((rest, memoryview(read)[:end])) if end else b""
        rest = read[end:] if end else rest + read
        offset += len(block)
        if len(rest) > MAX_LINE_BYTES:  # refused as too long; what follows it on the line is refused too
            offset += len(rest)
            block += rest + b"\n"
            rest = b""
        if block:
            yield block, offset
    if rest:
        yield b"", offset


def _long_lines(block: bytes, seconds: int) -> bytes:
    """The lines that end with so many seconds, or more, and those of which that is not sure."""
    view = np.frombuffer(block, dtype=np.uint8)
    last = np.flatnonzero(view == _NEWLINE)
    places = len(str(seconds))
    # Nearly every line has fewer digits at its end: it is looked at twice and left.
    behind = view[np.maximum(last - 1, 0)]
    is_unsure = (behind == _RETURN) | (behind == _NUL)
    lines = np.flatnonzero((view[np.maximum(last - places, 0)] - np.uint8(_ZERO) < 10) | is_unsure)
    first, last, is_unsure = np.concatenate(([0], last[:-1] + 1))[lines], last[lines], is_unsure[lines]
    is_number = last - first > places
    value = np.zeros(len(lines), dtype=np.int64)
    for place in range(places, 0, -1):
        digit = view[np.maximum(last - place, 0)] - np.uint8(_ZERO)
        is_number &= digit < 10
        value = value * 10 + digit
    is_longer = view[np.maximum(last - places - 1, 0)] - np.uint8(_ZERO) < 10
    found = np.flatnonzero(is_number & (is_longer | (value >= seconds)) | is_unsure)
    return b"".join(block[first[row] : last[row] + 1] for row in found.tolist())


# In a process of its own -------------------------------------------------------------------------


@contextlib.contextmanager
def _reading(path: Path, streams: dict[str, str], offset: int) -> Iterator[Connection]:
    """Starts a process that reads, and ends it. It tells of each block, then None, or an error.

    It is a fresh interpreter, which knows nothing of Django and its
    connections. Ctrl-C is for us alone: we end it, and it ends by itself
    where nobody listens any more.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(path, streams, offset, sender), daemon=True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the process inherits
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sender.close()
    try:
        yield receiver
    finally:
        process.terminate()
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()


def _received(receiver: Connection) -> Generator[LogColumns, None, None]:
    """What the process tells, to the end. Raises EOFError where it ended before, SourceUnavailable."""
    while (told := receiver.recv()) is not None:
        if isinstance(told, SourceUnavailable):
            raise told
        yield told


def _read(path: Path, streams: dict[str, str], offset: int, sender: Connection) -> None:
    """What the process does: it tells of each block, then of the end."""
    with contextlib.suppress(BrokenPipeError):
        try:
            for columns in BlockLog(path)._columns(streams, offset):
                sender.send(columns)
            sender.send(None)
        except SourceUnavailable as error:
            sender.send(error)
