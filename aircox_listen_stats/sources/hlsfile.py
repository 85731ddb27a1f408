"""nginx's HLS logs as files to import, in either format, plain or compressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..kernel.types import MS
from . import follow, hls
from .accesslog import UNFINISHED, LogFile, whole_lines

__all__ = ["HlsLogFile", "LinesRead", "is_hls_log"]

BLOCK_BYTES = 1024 * 1024
"""What is read at once: some 3,000 lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesRead:
    """How many lines a block has."""

    offset: int
    counts: Mapping[str, int] = field(default_factory=dict)


class HlsLogFile(LogFile):
    """A log file that gives lines."""

    def lines(self, *, offset: int = 0) -> Iterator[tuple[list[bytes] | None, int]]:
        """The log from ``offset`` on; see :func:`.accesslog.whole_lines`. Raises SourceUnavailable."""
        with self._open() as log:
            log.seek(offset)
            yield from whole_lines(log, offset=log.tell(), block_bytes=BLOCK_BYTES)

    def columns(self, streams: Mapping[str, str], *, offset: int) -> Iterator[LinesRead]:
        """How many lines there are from ``offset`` on: whether a log has more is asked so."""
        for lines, end in self.lines(offset=offset):
            yield LinesRead(offset=end, counts={UNFINISHED: 1} if lines is None else {"read": sum(map(bool, lines))})

    def _head(self) -> tuple[bytes, int]:
        with self._open() as log:
            head = log.read(follow.HEAD_BYTES)
        return head.partition(b"\n")[0], follow.first_stamp(head, lambda line: hls.parse_line(line).ended_ms // MS)


def is_hls_log(path: Path) -> bool:
    """Is what the log begins with nginx's, and nothing of Icecast's? Raises SourceUnavailable."""
    return not LogFile(path).first_ms() and bool(HlsLogFile(path).first_ms())
