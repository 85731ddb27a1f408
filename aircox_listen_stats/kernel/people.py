"""Who is who among the parts: when each listener heard anything, and what counts each of them once.

A listener's starts and ends are sorted apart from each other. Whether the i-th
end comes before the next start tells where that listener falls silent, however
the parts overlap; so nothing needs to know which end belongs to which start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .arrays import Bools, Ints, blocks
from .sweeps import WORD_BITS, Axis, Words

__all__ = ["People", "Union"]

_TABLE_BITS = 20
"""Of a table of a million flags that fits into the processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Union:
    """Disjoint stretches of each listener, by listener (numbered from 0), then start."""

    person: Ints
    started_ms: Ints
    ended_ms: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class People:
    """Starts and ends of all parts, each sorted by listener, then time: ``name << axis.bits | unit``.

    A name is a listener's key, shortened so that no two share one.
    """

    axis: Axis
    starts: Words
    ends: Words

    @classmethod
    def of(cls, axis: Axis, starts: Ints, ends: Ints, listener: Ints) -> People:
        """Of parts that are not empty, in any order."""
        names = _Names.of(listener, WORD_BITS - axis.bits)
        by_start, by_end = np.empty((2, len(starts)), dtype=np.uint64)
        shift = np.uint64(axis.bits)
        for rows in blocks(len(starts)):
            name = names.of_keys(listener[rows])
            name <<= shift
            by_start[rows] = name | axis.units(starts[rows]).view(np.uint64)
            by_end[rows] = name | axis.units(ends[rows]).view(np.uint64)
        by_start.sort()
        by_end.sort()
        return cls(axis=axis, starts=by_start, ends=by_end)

    def union(self) -> Union:
        """When each listener heard anything; stretches that touch are one."""
        shift, low = np.uint64(self.axis.bits), np.uint64((1 << self.axis.bits) - 1)
        begins = np.ones(len(self.starts), dtype=np.bool_)
        np.greater(self.starts[1:], self.ends[:-1], out=begins[1:])
        stops = np.append(begins[1:], True) if len(begins) else begins
        starts, ends = self.starts[begins], self.ends[stops]
        person = np.zeros(len(starts), dtype=np.int64)
        np.cumsum((starts[1:] >> shift) != (starts[:-1] >> shift), out=person[1:])
        starts &= low
        ends &= low
        return Union(
            person=person,
            started_ms=self.axis.instants(starts.view(np.int64)),
            ended_ms=self.axis.instants(ends.view(np.int64)),
        )

    def silences(self, length_bits: int) -> Iterator[tuple[Ints, Ints]]:
        """Starts and lengths, in units, of listeners' silences shorter than ``1 << length_bits`` units, in pieces."""
        shift, low = np.uint64(self.axis.bits), np.uint64((1 << self.axis.bits) - 1)
        most = np.uint64((1 << min(length_bits, self.axis.bits)) - 1)
        for rows in blocks(max(0, len(self.starts) - 1)):
            end, start = self.ends[rows], self.starts[rows.start + 1 : rows.stop + 1]
            length = start - end  # wraps far up where the parts overlap
            at = np.flatnonzero(length <= most)
            at = at[(end[at] >> shift) == (start[at] >> shift)]  # not between two listeners
            yield (end[at] & low).view(np.int64), length[at].view(np.int64)

    def overlaps(self) -> tuple[Ints, Ints]:
        """Sorted starts that begin no stretch, and sorted ends that end none, in units."""
        low = np.uint64((1 << self.axis.bits) - 1)
        at = [
            np.flatnonzero(self.starts[rows.start + 1 : rows.stop + 1] < self.ends[rows]) + rows.start
            for rows in blocks(max(0, len(self.starts) - 1))
        ]
        places = np.concatenate(at) if at else np.empty(0, dtype=np.int64)
        starts, ends = self.starts[places + 1] & low, self.ends[places] & low
        return np.sort(starts.view(np.int64)), np.sort(ends.view(np.int64))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Names:
    """Short names for keys. The leading bits of a key name it; keys that share them are named by their number."""

    low: int
    spare: int
    is_shared: Bools  # by the name's last bits: whether some shared name ends so
    shared: Words  # the keys whose leading bits another key has too, sorted
    first_number: int

    @classmethod
    def of(cls, listener: Ints, bits: int) -> _Names:
        low, high = (int(listener.min()), int(listener.max())) if len(listener) else (0, 0)
        span = (high - low).bit_length()
        if span <= bits:
            nobody = np.empty(0, dtype=np.uint64)
            return cls(low=low, spare=0, is_shared=np.zeros(0, dtype=np.bool_), shared=nobody, first_number=0)
        spare = span - (bits - 1)  # the upper half of the names is for numbers
        keys = np.sort(listener)
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
        words = (keys - low).view(np.uint64)
        names = words >> np.uint64(spare)
        is_same = names[1:] == names[:-1]
        shares = np.concatenate((is_same, [False])) | np.concatenate(([False], is_same))
        if np.count_nonzero(shares) > 1 << (bits - 1):
            raise ValueError(
                f"{np.count_nonzero(shares):,} listeners cannot be told apart beside so long a time. "
                f"Expected at most {1 << (bits - 1):,}; take a shorter stretch of time."
            )
        is_shared = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        is_shared[names[shares] & np.uint64((1 << _TABLE_BITS) - 1)] = True
        return cls(low=low, spare=spare, is_shared=is_shared, shared=words[shares], first_number=1 << (bits - 1))

    def of_keys(self, listener: Ints) -> Words:
        words = (listener - self.low).view(np.uint64)
        if not self.spare:
            return words
        names = words >> np.uint64(self.spare)
        if len(self.shared):
            rows = np.flatnonzero(self.is_shared[names & np.uint64((1 << _TABLE_BITS) - 1)])
            number = np.minimum(np.searchsorted(self.shared, words[rows]), len(self.shared) - 1)
            is_one = self.shared[number] == words[rows]
            names[rows[is_one]] = (number[is_one] + self.first_number).view(np.uint64)
        return names
