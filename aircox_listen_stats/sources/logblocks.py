"""Blocks of Icecast's access log as columns: what ``parse_line`` says of each line, many times faster.

Array sweeps read the plain lines: six quotes, no backslash, no user, nothing
that is no text. Every other line goes to the line parser, one by one, so that
none is lost and each is refused for the reason that the parser gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import MalformedRecord
from ..kernel.arrays import Bools, Ints, Words
from ..kernel.types import MS
from .accesslog import MAX_DURATION_SECONDS, line_fields, parse_line, stream_of
from .follow import MAX_LINE_BYTES
from .stamps import instant
from .tokens import MARGIN, Tokens

__all__ = ["BlockReader", "LogColumns"]

REMEMBERED = 1 << 19
"""So many addresses, agents or requests are numbered; then numbers begin again. Some 60 MB."""

FEW = 1000
"""Strange bytes of a block that are looked for one after the other."""

_QUOTE, _NEWLINE, _SPACE, _ZERO, _DASH = b'"\n 0-'
_STRANGE = (b"\\", b"\0", b"\r")
"""A line with one of these is for the line parser."""
_QUOTES = 6

# What stands before the request: `… - - [22/Nov/2026:01:54:40 +0000] "GET`. Places are counted from its first space.
_HEAD = 34
_HEAD_ROOM = 40
_STAMP = slice(6, 32)
_MINUTE, _SECOND = 21, 24
_HOUR_PARTS = np.frombuffer(
    bytes(255 if place not in (21, 22, 24, 25) and place < _HEAD else 0 for place in range(_HEAD_ROOM)), dtype=np.uint64
)
"""All of it but the digits of minutes and seconds, and what comes behind."""

_WORD = 8
_LONGEST_SECONDS = 8
_LONGEST_SENT = 16
_DIGITS = np.uint64(0x3030303030303030)
_HIGH_HALVES = np.uint64(0xF0F0F0F0F0F0F0F0)
_SIXES = np.uint64(0x0606060606060606)
_KEPT = np.array(
    [(0xFFFFFFFFFFFFFFFF << 8 * (_WORD - size)) & 0xFFFFFFFFFFFFFFFF for size in range(9)], dtype=np.uint64
)
"""Of a word, its last 0 to 8 characters."""

Bytes = npt.NDArray[np.uint8]


def _no_ints() -> Ints:
    return np.empty(0, dtype=np.int64)


@dataclass(slots=True, kw_only=True)
class LogColumns:
    """What the listening lines of a block say, in the order of the lines.

    ``stream`` holds indices into the sorted slugs; ``ip`` and ``agent`` are
    numbers, in the order of which ``ips`` and ``agents`` hold those that this
    block met first. With ``is_afresh`` all numbers begin again here.
    ``offset`` is the (decompressed) byte behind the last line, ``disk_offset``
    how far the file was read. ``first_ms`` and ``last_ms`` bound the stamps of
    all lines, listening or not; 0 where none could be read.
    """

    offset: int
    disk_offset: int = 0
    started_ms: Ints = field(default_factory=_no_ints)
    ended_ms: Ints = field(default_factory=_no_ints)
    stream: Ints = field(default_factory=_no_ints)
    ip: Ints = field(default_factory=_no_ints)
    agent: Ints = field(default_factory=_no_ints)
    ips: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    is_afresh: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lines:
    """Some lines as columns. ``where`` is the stream's index, or -1 less the index of the reason why it is none."""

    first: Ints  # where in the block the line begins
    ended_s: Ints
    duration_s: Ints
    where: Ints
    ip: Ints
    agent: Ints

    def with_others(self, others: _Lines) -> _Lines:
        """All lines of both, in the order of the block."""
        at = np.searchsorted(self.first, others.first)
        return _Lines(
            first=np.insert(self.first, at, others.first),
            ended_s=np.insert(self.ended_s, at, others.ended_s),
            duration_s=np.insert(self.duration_s, at, others.duration_s),
            where=np.insert(self.where, at, others.where),
            ip=np.insert(self.ip, at, others.ip),
            agent=np.insert(self.agent, at, others.agent),
        )


class BlockReader:
    """Reads blocks of whole lines, and remembers what it has met."""

    def __init__(self, streams: Mapping[str, str]) -> None:
        self._streams = streams
        self._slugs = {slug: number for number, slug in enumerate(sorted(set(streams.values())))}
        self._reasons: list[str] = []
        self._forget()

    def read(self, block: bytes, offset: int) -> LogColumns:
        """The columns of a block of whole lines, which ends at ``offset``."""
        if max(len(self._ips), len(self._agents), len(self._requests), len(self._placed)) > REMEMBERED:
            self._forget()
        counts: Counter[str] = Counter()
        lines = self._lines(block, counts)
        listening = np.flatnonzero(lines.where >= 0)
        for number, count in zip(*np.unique(lines.where[lines.where < 0], return_counts=True), strict=True):
            counts[self._reasons[-1 - int(number)]] = int(count)
        counts["kept"] = len(listening)
        ended_ms = lines.ended_s * MS
        is_afresh, self._is_afresh = self._is_afresh, False
        new_ips, self._new_ips = self._new_ips, []
        return LogColumns(
            offset=offset,
            started_ms=(ended_ms - lines.duration_s * MS)[listening],
            ended_ms=ended_ms[listening],
            stream=lines.where[listening],
            ip=lines.ip[listening],
            agent=lines.agent[listening],
            ips=[one.decode("latin-1") for one in new_ips],
            agents=[one.decode("latin-1") for one in self._agents.fresh()],
            is_afresh=is_afresh,
            counts=dict(counts),
            first_ms=int(ended_ms.min()) if len(ended_ms) else 0,
            last_ms=int(ended_ms.max()) if len(ended_ms) else 0,
        )

    def _forget(self) -> None:
        self._ips, self._agents, self._requests = Tokens(), Tokens(), Tokens()
        self._placed: dict[int | bytes, int] = {}
        self._known_ips = 0
        self._new_ips: list[bytes] = []
        self._no_ips: list[int] = []
        self._is_afresh = True

    def _lines(self, block: bytes, counts: Counter[str]) -> _Lines:
        buffer = block + bytes(MARGIN)
        view = np.frombuffer(buffer, dtype=np.uint8)
        marks = np.flatnonzero((view == _QUOTE) | (view == _NEWLINE))
        newline = np.flatnonzero(view[marks] == _NEWLINE)
        last = marks[newline]  # the newline of each line
        first = np.concatenate(([0], last[:-1] + 1))
        counts["read"] = int(np.count_nonzero(last > first))
        is_plain = np.diff(newline, prepend=-1) == _QUOTES + 1
        for strange in _STRANGE:
            is_plain[np.searchsorted(last, _places(block, strange))] = False
        plain, is_read = self._plain_lines(buffer, view, first[is_plain], last[is_plain], marks, newline[is_plain])
        is_plain[np.flatnonzero(is_plain)[~is_read]] = False
        careful = np.flatnonzero(~is_plain & (last > first))
        if not len(careful):
            return plain
        return plain.with_others(self._careful_lines(buffer, first[careful], last[careful], counts))

    # Plain lines ---------------------------------------------------------------------------------

    def _plain_lines(
        self, buffer: bytes, view: Bytes, first: Ints, last: Ints, marks: Ints, newline: Ints
    ) -> tuple[_Lines, Bools]:
        """What the sweeps can read, and which of the lines that is. All have six quotes, at ``marks``."""
        quotes = [marks[newline - _QUOTES + number] for number in range(_QUOTES)]
        word = np.ndarray((len(buffer) - _WORD + 1,), dtype="<u8", buffer=buffer, strides=(1,))
        is_read = (last - first <= MAX_LINE_BYTES) & (quotes[0] - first > _HEAD) & (quotes[0] >= _HEAD)
        is_read &= (quotes[4] - quotes[3] == 2) & (view[quotes[3] + 1] == _SPACE) & (view[quotes[5] + 1] == _SPACE)
        ended_s, has_stamp = _ends(buffer, quotes[0] - _HEAD)
        is_read &= has_stamp
        status, has_status = _statuses(view, quotes[1])
        is_read &= has_status & (view[quotes[2] - 1] == _SPACE)
        is_empty, has_sent = _nothing_sent(view, word, quotes[1] + 6, quotes[2] - 1)
        is_read &= has_sent
        duration_s, has_seconds = _numbers(word, last, last - quotes[5] - 2)
        is_read &= has_seconds & (duration_s <= MAX_DURATION_SECONDS) & (duration_s <= ended_s)
        ip = self._ip_numbers(buffer, first, np.where(is_read, quotes[0] - _HEAD - first, 0))
        is_read &= ip >= 0
        rows = np.flatnonzero(is_read)
        quotes = [one[rows] for one in quotes]
        request = self._requests.numbers(buffer, quotes[0] + 1, quotes[1] - quotes[0] - 1)
        lines = _Lines(
            first=first[rows],
            ended_s=ended_s[rows],
            duration_s=duration_s[rows],
            where=self._where(buffer, (request * 1000 + status[rows]) * 2 + is_empty[rows], first[rows], last[rows]),
            ip=ip[rows],
            agent=self._agents.numbers(buffer, quotes[4] + 1, quotes[5] - quotes[4] - 1),
        )
        self._requests.fresh()
        return lines, is_read

    def _ip_numbers(self, buffer: bytes, first: Ints, length: Ints) -> Ints:
        """The numbers of the addresses; -1 of what is none: nothing, several words, or not ASCII."""
        ip = self._ips.numbers(buffer, first, length)
        for number, one in enumerate(self._ips.fresh(), start=self._known_ips):
            self._new_ips.append(one)
            if not one or b" " in one or not one.isascii():
                self._no_ips.append(number)
        self._known_ips = len(self._ips)
        return np.where(np.isin(ip, self._no_ips), -1, ip) if self._no_ips else ip

    def _where(self, buffer: bytes, kind: Ints, first: Ints, last: Ints) -> Ints:
        """Of each kind of request, with its status, where it belongs: the parser is asked once for each."""
        kinds, one, kind = np.unique(kind, return_index=True, return_inverse=True)
        found = []
        for key, row in zip(kinds.tolist(), one.tolist(), strict=True):
            where = self._placed.get(key)
            if where is None:
                where = self._placed[key] = self._place(buffer[first[row] : last[row]])
            found.append(where)
        return np.array(found, dtype=np.int64)[kind]

    def _place(self, line: bytes) -> int:
        stream, reason = stream_of(parse_line(line), self._streams)
        if not reason:
            return self._slugs[stream]
        name = f"skipped_{reason}"
        if name not in self._reasons:
            self._reasons.append(name)
        return -1 - self._reasons.index(name)

    # The others ----------------------------------------------------------------------------------

    def _careful_lines(self, buffer: bytes, first: Ints, last: Ints, counts: Counter[str]) -> _Lines:
        found: list[tuple[int, int, int, int]] = []
        ips: list[bytes] = []
        agents: list[bytes] = []
        for start, end in zip(first.tolist(), last.tolist(), strict=True):
            line = buffer[start:end]
            try:
                ip, agent, ended_s, duration_s, key = line_fields(line)
            except MalformedRecord as error:
                counts[f"refused_{error.reason}"] += 1
                continue
            where = self._placed.get(key)
            if where is None:
                where = self._placed[key] = self._place(line)
            found.append((start, ended_s, duration_s, where))
            ips.append(ip)
            agents.append(agent)
        columns = np.array(found, dtype=np.int64).reshape(-1, 4).T
        lines = _Lines(
            first=columns[0],
            ended_s=columns[1],
            duration_s=columns[2],
            where=columns[3],
            ip=self._ips.numbers_of(ips),
            agent=self._agents.numbers_of(agents),
        )
        self._new_ips += self._ips.fresh()
        self._known_ips = len(self._ips)
        return lines


def _places(block: bytes, byte: bytes) -> Ints:
    """Where the byte stands: nearly always in a few places, each of which is found at once."""
    places: list[int] = []
    place = block.find(byte)
    while place >= 0:
        if len(places) > FEW:
            return np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == byte[0])
        places.append(place)
        place = block.find(byte, place + 1)
    return np.array(places, dtype=np.int64)


# Columns of digits -------------------------------------------------------------------------------


def _ends(buffer: bytes, at: Ints) -> tuple[Ints, Bools]:
    """Epoch seconds of the stamps in the heads ``at``, and which heads are plain.

    Lines come in the order of their stamps: few begin another hour, and only
    those are read by :func:`stamps.instant`.
    """
    heads: npt.NDArray[np.void] = np.ndarray(
        (len(buffer) - _HEAD_ROOM + 1,), dtype=f"V{_HEAD_ROOM}", buffer=buffer, strides=(1,)
    )
    rows = heads[np.maximum(at, 0)]
    if not len(rows):
        return _no_ints(), np.empty(0, dtype=np.bool_)
    hours = rows.view(np.uint64).reshape(len(rows), -1) & _HOUR_PARTS
    is_new = np.concatenate(([True], (hours[1:] != hours[:-1]).any(axis=1)))
    begins = [_hour(rows[row].tobytes()) for row in np.flatnonzero(is_new).tolist()]
    begin_s = np.array(begins, dtype=np.int64)[np.cumsum(is_new) - 1]
    digits = rows.view(np.uint8).reshape(len(rows), -1)[:, _MINUTE : _SECOND + 2] - np.uint8(_ZERO)
    minute, second = (digits[:, place] * np.int64(10) + digits[:, place + 1] for place in (0, _SECOND - _MINUTE))
    is_plain = (begin_s >= 0) & (minute < 60) & (second < 60) & (digits[:, [0, 1, 3, 4]] < 10).all(axis=1)
    return begin_s + minute * 60 + second, is_plain


def _hour(head: bytes) -> int:
    """When the hour of a head begins; -1 where it has another form."""
    stamp = head[_STAMP]
    if head[: _STAMP.start] != b" - - [" or head[_STAMP.stop : _HEAD] != b"] " or stamp[17:18] != b":":
        return -1
    try:
        return instant(stamp[:15] + b"00:00" + stamp[20:])
    except MalformedRecord:
        return -1


def _statuses(view: Bytes, quote: Ints) -> tuple[Ints, Bools]:
    """The three digits between spaces behind ``quote``, and where they stand there."""
    digits = [view[quote + place] - np.uint8(_ZERO) for place in (2, 3, 4)]
    is_status = (view[quote + 1] == _SPACE) & (view[quote + 5] == _SPACE)
    for digit in digits:
        is_status &= digit < 10
    return digits[0] * np.int64(100) + digits[1] * np.int64(10) + digits[2], is_status


def _nothing_sent(view: Bytes, word: Words, start: Ints, end: Ints) -> tuple[Bools, Bools]:
    """Where the number in ``[start, end)`` is 0, and where there is a number, or the dash of an unknown one."""
    size = end - start
    low, high = _digits(word, end, size), _digits(word, end - _WORD, size - _WORD)
    is_number = (size >= 1) & (size <= _LONGEST_SENT) & _are_digits(low) & _are_digits(high)
    is_dash = (size == 1) & (view[start] == _DASH)
    return (low == _DIGITS) & (high == _DIGITS), is_number | is_dash


def _numbers(word: Words, end: Ints, size: Ints) -> tuple[Ints, Bools]:
    """The numbers of ``size`` digits before ``end``, and where there are such; see Lemire, "Quickly parsing
    eight digits" (2018)."""
    digits = _digits(word, end, size)
    is_number = (size >= 1) & (size <= _LONGEST_SECONDS) & _are_digits(digits)
    value = digits - _DIGITS
    value = value * np.uint64(10) + (value >> np.uint64(8))
    pairs = np.uint64(0x000000FF000000FF)
    value = (
        (value & pairs) * np.uint64(100 + (1_000_000 << 32))
        + ((value >> np.uint64(16)) & pairs) * np.uint64(1 + (10_000 << 32))
    ) >> np.uint64(32)
    return value.astype(np.int64), is_number


def _digits(word: Words, end: Ints, size: Ints) -> Words:
    """The last ``size`` of the eight characters before ``end``, with zeros before them."""
    kept = _KEPT[np.clip(size, 0, _WORD)]
    return (word[np.maximum(end - _WORD, 0)] & kept) | (_DIGITS & ~kept)


def _are_digits(characters: Words) -> Bools:
    # A digit's high half is 3, and 6 more does not carry into it.
    return ((characters & _HIGH_HALVES) == _DIGITS) & (((characters + _SIXES) & _HIGH_HALVES) == _DIGITS)
