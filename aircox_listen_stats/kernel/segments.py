"""Requests for segments, millions at once, as sessions: a sort of packed integers and one sweep over them.

A segment asked for at ``t`` is heard during ``[t, t + target)``. Listening is
the union of these windows, silences up to ``silence_ms`` from one request to
the next bridged: what sources/segments.py says of one player, here of many
players that are told apart already.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .arrays import Ints

__all__ = ["SegmentSessions", "stitch_segments"]

_KEY_BITS = 64
"""Bits of a uint64: numpy sorts twenty million of them by value in a quarter of a second."""

_MOST_SORTS = 3
"""Bytes that find no room beside who and when are spread over several keys, each sorted for itself. So many of
these sorts still take a third of the time of a lexsort; more would only be asked for by odd numbers."""

_BLOCK_ROWS = 1 << 15
"""Rows that are swept at once: what is made of them stays in the processor's cache, and no fresh memory is touched."""

_Integers = npt.NDArray[np.integer[Any]]
_Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentSessions:
    """Sessions as columns, by listener, then start.

    Session ``i`` has the parts ``first_part[i]`` to ``first_part[i + 1]``
    (which has one element more than there are sessions), absolute, disjoint
    and sorted. ``rendition`` is the one of most segments, of equals the lower.
    """

    listener: Ints
    started_ms: Ints
    ended_ms: Ints
    played_ms: Ints
    segments: Ints
    bytes_sent: Ints
    rendition: Ints
    switches: Ints
    first_part: Ints
    part_started_ms: Ints
    part_ended_ms: Ints

    def __len__(self) -> int:
        return len(self.listener)


def stitch_segments(
    listener: _Integers,
    at_ms: _Integers,
    bytes_sent: _Integers,
    rendition: _Integers,
    *,
    target_ms: int,
    silence_ms: int,
    gap_ms: int,
) -> SegmentSessions:
    """The sessions of many listeners, from one row for each request, rows in any order.

    A request more than ``silence_ms`` after the listener's last one begins
    another part; one more than ``gap_ms`` after the end of that one's window
    another session. Requests of one instant are taken by rendition. Listeners
    and renditions are fastest as small numbers; any others will do. Raises
    ValueError unless ``target_ms <= silence_ms <= target_ms + gap_ms``.
    """
    if not 0 <= target_ms <= silence_ms <= target_ms + gap_ms:
        raise ValueError(
            f"target_ms is {target_ms}, silence_ms {silence_ms} and gap_ms {gap_ms}; "
            "expected 0 <= target_ms <= silence_ms <= target_ms + gap_ms."
        )
    if len(listener) == 0:
        return SegmentSessions(**{name: np.empty(0, np.int64) for name in _COLUMNS}, first_part=np.zeros(1, np.int64))
    far_ms = target_ms + gap_ms
    rows: _Sorted | None = _packed(listener, at_ms, bytes_sent, rendition, far_ms)
    if rows is None:
        rows = _Ordered(listener, at_ms, bytes_sent, rendition, far_ms)
    return _sessions(rows, _swept(rows, silence_ms), target_ms=target_ms, far_ms=far_ms)


_COLUMNS = (
    *("listener", "started_ms", "ended_ms", "played_ms", "segments", "bytes_sent", "rendition", "switches"),
    *("part_started_ms", "part_ended_ms"),
)


# Sorted requests ---------------------------------------------------------------------------------


class _Sorted(Protocol):
    """Requests by listener, instant, rendition. ``rows`` are a slice of that order, or indices into it."""

    size: int

    def steps(self, rows: slice) -> Ints:
        """From each row but the last to the next one; beyond any gap where that is another listener's."""

    def listeners(self, rows: Ints) -> Ints: ...

    def instants(self, rows: Ints) -> Ints: ...

    def renditions(self, rows: slice | Ints) -> Ints: ...

    def addends(self, rows: slice) -> Iterator[tuple[_Integers, int]]:
        """Numbers of each row, and by how many bits to shift them up, that add up to its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Some bits of a key: a number less ``low``."""

    low: int
    bits: int

    @classmethod
    def of(cls, values: _Integers, room: int = 0) -> _Field:
        """For these values, and ``room`` more above the highest."""
        low = int(values.min())
        return cls(low=low, bits=(int(values.max()) - low + room).bit_length())

    def push(self, keys: _Words, values: _Integers, scratch: _Words) -> None:
        """Shifts the keys up and puts the values below."""
        keys <<= np.uint64(self.bits)
        np.copyto(scratch, values, casting="unsafe")  # modulo 2**64, as is the next line: exact for negative ones too
        scratch -= np.uint64(self.low % (1 << _KEY_BITS))
        keys |= scratch


class _Packed:
    """Requests in keys that are sorted by value.

    A key is, from its high bits down: listener, instant, rendition, and so
    many bits of the bytes as find room. The bytes' other bits are in further
    keys, whose order differs among requests of one instant and rendition
    alone, so that sums over parts are the same.
    """

    def __init__(self, who: _Field, when: _Field, which: _Field, sums: list[tuple[_Words, int, int]]) -> None:
        self.who, self.when, self.which = who, when, which
        self.sums = sums  # keys, how many bits of the bytes are in them, from which bit on
        self.keys, self.below, _ = sums[0]
        self.size = len(self.keys)

    def steps(self, rows: slice) -> Ints:
        places = self.keys[rows] >> np.uint64(self.which.bits + self.below)
        return np.diff(places).view(np.int64)

    def listeners(self, rows: Ints) -> Ints:
        found = self.keys[rows] >> np.uint64(self.when.bits + self.which.bits + self.below)
        return found.view(np.int64) + self.who.low

    def instants(self, rows: Ints) -> Ints:
        return self._low_bits(rows, self.which.bits + self.below, self.when.bits) + self.when.low

    def renditions(self, rows: slice | Ints) -> Ints:
        return self._low_bits(rows, self.below, self.which.bits) + self.which.low

    def addends(self, rows: slice) -> Iterator[tuple[_Integers, int]]:
        for keys, bits, first_bit in self.sums:
            yield keys[rows] & np.uint64((1 << bits) - 1), first_bit

    def _low_bits(self, rows: slice | Ints, above: int, bits: int) -> Ints:
        found = self.keys[rows] >> np.uint64(above)
        found &= np.uint64((1 << bits) - 1)
        return found.view(np.int64)


def _packed(
    listener: _Integers, at_ms: _Integers, bytes_sent: _Integers, rendition: _Integers, far_ms: int
) -> _Packed | None:
    """The requests in keys; None where their numbers are too large for it.

    Above the instants is so much room that the step from one listener to the
    next is beyond any gap: no pass needs to look at listeners.
    """
    if int(bytes_sent.min()) < 0:
        return None
    who, when, which = _Field.of(listener), _Field.of(at_ms, far_ms + 1), _Field.of(rendition)
    sent_bits = int(bytes_sent.max()).bit_length()
    room = _KEY_BITS - 1 - who.bits - when.bits - which.bits  # no shift by all 64 bits, which is undefined
    if room < 0 or sent_bits > room * _MOST_SORTS:
        return None
    size = len(listener)
    sums = [
        (np.empty(size, np.uint64), min(room, sent_bits - first_bit), first_bit)
        for first_bit in range(0, max(sent_bits, 1), max(room, 1))
    ]
    word, scratch = np.empty(_BLOCK_ROWS, np.uint64), np.empty(_BLOCK_ROWS, np.uint64)
    for first in range(0, size, _BLOCK_ROWS):
        rows = slice(first, min(size, first + _BLOCK_ROWS))
        some, other = word[: rows.stop - first], scratch[: rows.stop - first]
        some.fill(0)
        for field, values in ((who, listener), (when, at_ms), (which, rendition)):
            field.push(some, values[rows], other)
        for keys, bits, first_bit in sums:
            np.left_shift(some, np.uint64(bits), out=keys[rows])
            np.copyto(other, bytes_sent[rows], casting="unsafe")
            other >>= np.uint64(first_bit)
            other &= np.uint64((1 << bits) - 1)
            keys[rows] |= other
    with ThreadPoolExecutor(len(sums)) as sorters:  # numpy sorts without the interpreter's lock
        list(sorters.map(np.ndarray.sort, [keys for keys, _, _ in sums]))
    return _Packed(who, when, which, sums)


class _Ordered:
    """Requests of any numbers, gathered in an order that a lexsort found: several times slower."""

    def __init__(
        self, listener: _Integers, at_ms: _Integers, bytes_sent: _Integers, rendition: _Integers, far_ms: int
    ) -> None:
        order = np.lexsort((rendition, at_ms, listener))
        self.listener, self.at_ms, self.sent, self.rendition = (
            column[order].astype(np.int64) for column in (listener, at_ms, bytes_sent, rendition)
        )
        self.far_ms = far_ms
        self.size = len(order)

    def steps(self, rows: slice) -> Ints:
        listener = self.listener[rows]
        return np.where(listener[1:] == listener[:-1], np.diff(self.at_ms[rows]), self.far_ms + 1)

    def listeners(self, rows: Ints) -> Ints:
        return self.listener[rows]

    def instants(self, rows: Ints) -> Ints:
        return self.at_ms[rows]

    def renditions(self, rows: slice | Ints) -> Ints:
        return self.rendition[rows]

    def addends(self, rows: slice) -> Iterator[tuple[_Integers, int]]:
        yield self.sent[rows], 0


# Swept once ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Swept:
    """What a sweep finds, all of it rare: row numbers, and the bytes of each part."""

    part_first: Ints
    part_bytes: Ints
    changes: Ints  # rows of another rendition than the row before


def _swept(rows: _Sorted, silence_ms: int) -> _Swept:
    begins: list[Ints] = [np.zeros(1, np.int64)]
    changes: list[Ints] = []
    piece_first: list[Ints] = []  # parts as the blocks cut them
    piece_bytes: list[Ints] = []
    for first in range(0, rows.size, _BLOCK_ROWS):
        stop = min(rows.size, first + _BLOCK_ROWS)
        before = max(0, first - 1)
        steps = rows.steps(slice(before, stop))
        found = np.flatnonzero(steps > silence_ms) + (before + 1)
        renditions = rows.renditions(slice(before, stop))
        changes.append(np.flatnonzero(renditions[1:] != renditions[:-1]) + (before + 1))
        begins.append(found)
        pieces = found if len(found) and found[0] == first else np.concatenate(([first], found))
        piece_first.append(pieces)
        sent = np.zeros(len(pieces), np.int64)
        for numbers, shift in rows.addends(slice(first, stop)):
            sent += np.add.reduceat(numbers, pieces - first).astype(np.int64) << shift
        piece_bytes.append(sent)
    part_first = np.concatenate(begins)
    at = np.searchsorted(np.concatenate(piece_first), part_first)
    return _Swept(
        part_first=part_first,
        part_bytes=np.add.reduceat(np.concatenate(piece_bytes), at),
        changes=np.concatenate(changes),
    )


def _sessions(rows: _Sorted, swept: _Swept, *, target_ms: int, far_ms: int) -> SegmentSessions:
    part_stop = np.append(swept.part_first[1:], rows.size)
    who = rows.listeners(swept.part_first)
    started_ms = rows.instants(swept.part_first)
    ended_ms = rows.instants(part_stop - 1) + target_ms
    is_new = np.ones(len(who), dtype=np.bool_)
    is_new[1:] = (who[1:] != who[:-1]) | (started_ms[1:] - ended_ms[:-1] > far_ms - target_ms)
    first = np.flatnonzero(is_new)
    rendition, switches = _renditions(rows, swept.part_first[first], swept.changes)
    first_part = np.append(first, len(who))
    return SegmentSessions(
        listener=who[first],
        started_ms=started_ms[first],
        ended_ms=ended_ms[first_part[1:] - 1],
        played_ms=np.add.reduceat(ended_ms - started_ms, first),
        segments=np.diff(swept.part_first[first], append=rows.size),
        bytes_sent=np.add.reduceat(swept.part_bytes, first),
        rendition=rendition,
        switches=switches,
        first_part=first_part,
        part_started_ms=started_ms,
        part_ended_ms=ended_ms,
    )


def _renditions(rows: _Sorted, session_first: Ints, changes: Ints) -> tuple[Ints, Ints]:
    """Of each session the rendition of most rows, and how often it changed."""
    found = rows.renditions(session_first)
    session = np.searchsorted(session_first, changes, side="right") - 1
    inside = changes != session_first[session]
    changes, session = changes[inside], session[inside]
    switches = np.bincount(session, minlength=len(session_first))
    several = np.flatnonzero(switches)
    if len(several) == 0:
        return found, switches
    # Runs of one rendition, of the sessions that changed.
    begins = np.concatenate((session_first[several], changes))
    owner = np.concatenate((several, session))
    order = np.argsort(begins)
    begins, owner = begins[order], owner[order]
    ends = np.append(begins[1:], rows.size)
    ends = np.minimum(ends, np.append(session_first, rows.size)[owner + 1])
    which = rows.renditions(begins)
    order = np.lexsort((which, owner))
    owner, which, length = owner[order], which[order], (ends - begins)[order]
    heads = np.flatnonzero(np.append(True, (owner[1:] != owner[:-1]) | (which[1:] != which[:-1])))
    owner, which, length = owner[heads], which[heads], np.add.reduceat(length, heads)
    order = np.lexsort((which, -length, owner))
    best = order[np.flatnonzero(np.append(True, np.diff(owner[order]) != 0))]
    found[owner[best]] = which[best]
    return found, switches
