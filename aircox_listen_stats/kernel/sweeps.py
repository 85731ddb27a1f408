"""Tune-ins and tune-outs sorted by value, and one pass over them that answers for any number of instants.

Nothing is sorted but whole integers that carry all that is needed later, since
numpy sorts values several times faster than it finds an order; and nothing as
long as the columns is made on the way but those integers, since fresh memory
costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import BLOCK_ROWS, Ints, Words, blocks, chunks, order_of, ranges, totals

__all__ = ["HALF_BITS", "WORD_BITS", "Axis", "Inside", "Sweep", "Tally", "Words"]


SECOND_MS = 1000
WORD_BITS = 64
"""Bits of an uint64."""
HALF_BITS = 32
"""Bits of an uint32; those sort twice as fast. Also: concurrency and place share an int64, concurrency above."""

_CHUNK_ROWS = 1 << 17
"""Rows of intervals that are compared at once."""

_LAST_PLACE = (1 << HALF_BITS) - 1

_BLOCK_BITS = 15
_MOST_IN_A_BLOCK = 1 << _BLOCK_BITS
"""``BLOCK_ROWS`` is no more."""
_COUNTING_DOWN = np.arange(_MOST_IN_A_BLOCK - 1, -1, -1, dtype=np.uint32)
"""So that of equal rises the first one in a block is the highest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Time in whole units from ``base_ms``: seconds where all instants are whole seconds, else milliseconds."""

    base_ms: int
    unit_ms: int
    bits: int  # of the latest instant in units

    @classmethod
    def of(cls, starts: Ints, ends: Ints) -> Axis:
        """The axis on which all of these lie exactly."""
        if len(starts) == 0:
            return cls(base_ms=0, unit_ms=SECOND_MS, bits=1)
        base = int(starts.min())
        unit = SECOND_MS if _differ_by_seconds(starts, base) and _differ_by_seconds(ends, base) else 1
        return cls(base_ms=base, unit_ms=unit, bits=max(1, ((int(ends.max()) - base) // unit).bit_length()))

    def units(self, instants: Ints) -> Ints:
        """Of instants that lie on the axis; of others, the last unit before."""
        moved = instants - self.base_ms
        if self.unit_ms != 1:
            moved //= self.unit_ms
        return moved

    def next_units(self, instants: Ints) -> Ints:
        """The unit at each instant, or the first one after it."""
        return -((self.base_ms - instants) // self.unit_ms)

    def instants(self, units: Ints) -> Ints:
        return units * self.unit_ms + self.base_ms


def _differ_by_seconds(values: Ints, base: int) -> bool:
    """Whether all lie whole seconds from ``base``; the first block settles it for live sources."""
    for rows in blocks(len(values)):
        moved = values[rows] - base
        if (moved // SECOND_MS * SECOND_MS != moved).any():
            return False
    return True


# Concurrency -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """What a sweep knows at ascending instants, twice for each: before its events (``2 i``), after them (``2 i + 1``).

    ``heard_ms`` is the listening of all until then, from the beginning.
    ``best`` packs, of the events from one place to the next, the highest
    concurrency that they bring and the first event that brings it.
    """

    begun: Ints
    ended: Ints
    heard_ms: Ints
    best: Ints

    @property
    def running(self) -> Ints:
        return self.begun - self.ended


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """Tune-ins and tune-outs in the order of time, a tune-out before a tune-in of the same instant.

    ``events`` are packed ``unit << 1 | is_tune_in``, in 32 bits where they fit.
    """

    axis: Axis
    events: npt.NDArray[np.unsignedinteger[Any]]
    _made: dict[str, Ints] = field(default_factory=dict)

    @classmethod
    def of(cls, axis: Axis, starts: Ints, ends: Ints) -> Sweep:
        """The sweep over intervals that are not empty, in any order."""
        size = len(starts)
        events = np.empty(2 * size, dtype=np.uint32 if axis.bits < HALF_BITS else np.uint64)
        for rows in blocks(size):
            begun = axis.units(starts[rows])
            begun <<= 1
            begun |= 1
            events[rows] = begun
            ended = axis.units(ends[rows])
            ended <<= 1
            events[size + rows.start : size + rows.stop] = ended
        events.sort()
        return cls(axis=axis, events=events)

    @property
    def carried(self) -> Ints:
        """Before each block: how many listen, and the units of the tune-ins less those of the tune-outs, summed."""
        if "carried" not in self._made:
            sums = np.zeros((-(-len(self.events) // BLOCK_ROWS) + 1, 2), dtype=np.int64)
            for number, rows in enumerate(blocks(len(self.events)), start=1):
                step, moved = _steps(self.events[rows])
                sums[number] = step.sum(), moved.sum()
            self._made["carried"] = np.cumsum(sums, axis=0)
        return self._made["carried"]

    def tally(self, instants: Ints, *, with_peaks: bool = True) -> Tally:
        """What holds at these ascending instants. Without peaks, only where they are is looked."""
        marks = np.empty(2 * len(instants), dtype=np.int64)
        marks[0::2] = self._place(self.axis.next_units(instants))
        marks[1::2] = self._place(self.axis.units(instants) + 1)
        running, moved, best = self._swept(marks, with_peaks=with_peaks)
        begun = (marks + running) >> 1
        heard_ms = np.repeat(instants - self.axis.base_ms, 2) * running - moved * self.axis.unit_ms
        return Tally(begun=begun, ended=marks - begun, heard_ms=heard_ms, best=best)

    def instant(self, best: Ints) -> Ints:
        """When the events happen that ``Tally.best`` tells of."""
        places = _LAST_PLACE - (best & _LAST_PLACE)
        return self.axis.instants((self.events[places] >> 1).astype(np.int64))

    def _place(self, units: Ints) -> Ints:
        """The number of events before each unit; needles of another type would make numpy copy the events."""
        inside = np.clip(units, 0, np.iinfo(self.events.dtype).max >> 1)
        return np.searchsorted(self.events, (inside << 1).astype(self.events.dtype))

    def _swept(self, marks: Ints, *, with_peaks: bool) -> tuple[Ints, Ints, Ints]:
        """After so many events each: how many listen, the sum of the units, and the best from mark to mark."""
        running, moved, best = np.zeros((3, len(marks)), dtype=np.int64)
        number, done = int(marks[0]) // BLOCK_ROWS if len(marks) else 0, 0
        listen, sum_before = self.carried[number].tolist() if number else (0, 0)
        while done < len(marks):
            first = number * BLOCK_ROWS
            stop = min(first + BLOCK_ROWS, len(self.events))
            reached = len(marks) if stop == len(self.events) else int(np.searchsorted(marks, stop))
            here = marks[done:reached] - first
            block = _Block.of(self.events[first:stop], here)
            running[done:reached] = listen + block.rises[here]
            sums = sum_before + np.cumsum(block.sums)
            moved[done:reached] = sums[:-1]
            if with_peaks:
                found = block.best(listen, first)
                best[done:reached] = found[1:]
                if done:  # what comes before the block's first mark belongs to the mark before
                    best[done - 1] = max(best[done - 1], found[0])
            listen, sum_before = listen + int(block.rises[-1]), int(sums[-1])
            number, done = number + 1, reached
            if not with_peaks and done < len(marks) and marks[done] // BLOCK_ROWS > number:
                number = int(marks[done]) // BLOCK_ROWS
                listen, sum_before = self.carried[number].tolist()
        return running, moved, best


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """A block of events, in stretches: up to the first mark, then from mark to mark and to its end.

    ``rises`` has one element more than there are events: by how many more
    listen than before the block. ``sums`` are those of the units, with signs.
    """

    rises: npt.NDArray[np.int32]
    sums: Ints
    lasting: Ints  # the stretches that hold an event
    begins: Ints  # where they begin

    @classmethod
    def of(cls, events: npt.NDArray[np.unsignedinteger[Any]], marks: Ints) -> _Block:
        step, moved = _steps(events)
        rises = np.zeros(len(events) + 1, dtype=np.int32)
        np.cumsum(step, out=rises[1:])
        bounds = np.empty(len(marks) + 2, dtype=np.int64)
        bounds[0], bounds[1:-1], bounds[-1] = 0, marks, len(events)
        lasting = np.flatnonzero(bounds[1:] > bounds[:-1])
        begins = bounds[lasting]
        sums = np.zeros(len(marks) + 1, dtype=np.int64)
        if len(begins):
            sums[lasting] = np.add.reduceat(moved, begins)
        return cls(rises=rises, sums=sums, lasting=lasting, begins=begins)

    def best(self, listen: int, first: int) -> Ints:
        """Of each stretch, as in ``Tally.best``, where ``listen`` listen before the block, from event ``first`` on.

        No more than a block can come or go in it, so that the rise and the place in the block share 32 bits.
        """
        found = np.zeros(len(self.sums), dtype=np.int64)
        if len(self.begins):
            packed = (self.rises[1:] + _MOST_IN_A_BLOCK).view(np.uint32)
            packed <<= _BLOCK_BITS
            packed |= _COUNTING_DOWN[: len(packed)]
            highest = np.maximum.reduceat(packed, self.begins).astype(np.int64)
            listeners = (highest >> _BLOCK_BITS) + (listen - _MOST_IN_A_BLOCK)
            places = first + _MOST_IN_A_BLOCK - 1 - (highest & (_MOST_IN_A_BLOCK - 1))
            found[self.lasting] = (listeners << HALF_BITS) | (_LAST_PLACE - places)
        return found


def _steps(events: npt.NDArray[np.unsignedinteger[Any]]) -> tuple[npt.NDArray[np.int32], Ints]:
    """Of each event, 1 for a tune-in and -1 for a tune-out, and its unit times that."""
    step = (events & 1).astype(np.int32)
    step <<= 1
    step -= 1
    moved = (events >> 1).astype(np.int64)
    moved *= step
    return step, moved


# Intervals within others -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inside:
    """Intervals shorter than ``1 << length_bits`` units, by start; tells how many lie inside others that are no longer.

    Start and length share a word where they fit; else the ends are kept beside the starts.
    """

    axis: Axis
    length_bits: int
    starts: Words | Ints
    ends: Ints | None

    @classmethod
    def of(cls, axis: Axis, length_bits: int, pieces: Iterable[tuple[Ints, Ints]], most: int) -> Inside:
        """From starts and lengths in units, ``most`` of them or fewer."""
        if axis.bits + length_bits > WORD_BITS:
            both = np.concatenate([np.empty((2, 0), dtype=np.int64), *(np.stack(some) for some in pieces)], axis=1)
            starts, lengths = both[:, order_of(both[0])]
            return cls(axis=axis, length_bits=length_bits, starts=starts, ends=starts + lengths)
        words = np.empty(most, dtype=np.uint64)  # what is not filled is never fetched
        filled = 0
        for starts, lengths in pieces:
            some = words[filled : filled + len(starts)]
            np.left_shift(starts.view(np.uint64), np.uint64(length_bits), out=some)
            some |= lengths.view(np.uint64)
            filled += len(starts)
        words = words[:filled]
        words.sort()
        return cls(axis=axis, length_bits=length_bits, starts=words, ends=None)

    def count(self, begins_ms: Ints, stops_ms: Ints) -> Ints:
        """How many begin after each of ``begins_ms``, ascending, and end before its stop."""
        after, before = self.axis.units(begins_ms), self.axis.next_units(stops_ms)
        first = self._place(after + 1)
        stop = np.maximum(self._place(before), first)
        counts = stop - first
        found = np.zeros(len(begins_ms), dtype=np.int64)
        if len(self.starts) == 0:
            return found
        for some in chunks(counts, _CHUNK_ROWS):
            low, high = int(first[some][0]), int(stop[some][-1])
            if len(counts[some]) == 1:
                found[some] = sum(
                    np.count_nonzero(self._ends(slice(low + rows.start, low + rows.stop)) < before[some])
                    for rows in blocks(high - low)
                )
            elif (stop[some][:-1] <= first[some][1:]).all() and high - low <= 2 * counts[some].sum():
                found[some] = self._in_a_row(first[some], stop[some], before[some])
            else:
                rows = ranges(first[some], counts[some])
                limits = np.repeat(before[some], counts[some])
                found[some] = totals(self._ends(rows) < limits, counts[some])
        return found

    def _in_a_row(self, first: Ints, stop: Ints, before: Ints) -> Ints:
        """For neighbours: compared in place, the few intervals in between as well."""
        low, high = int(first[0]), int(stop[-1])
        early = np.zeros(high - low + 1, dtype=np.int32)
        limits = np.repeat(before, np.diff(first, append=high))
        np.cumsum(self._ends(slice(low, high)) < limits, out=early[1:])
        return early[stop - low] - early[first - low]

    def _place(self, units: Ints) -> Ints:
        inside = np.clip(units, 0, 1 << self.axis.bits)
        if self.ends is not None:
            return np.searchsorted(self.starts, inside)
        # The one unit past the last would not fit where a word is full.
        past = inside >> self.axis.bits != 0
        words = np.where(past, 0, inside).astype(np.uint64) << np.uint64(self.length_bits)
        return np.where(past, len(self.starts), np.searchsorted(self.starts, words))

    def _ends(self, rows: Ints | slice) -> Ints:
        if self.ends is not None:
            return self.ends[rows]
        words = self.starts[rows]
        lengths = words & np.uint64((1 << self.length_bits) - 1)
        lengths += words >> np.uint64(self.length_bits)
        return lengths.view(np.int64)
