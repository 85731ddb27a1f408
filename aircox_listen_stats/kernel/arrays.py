"""Ideas about arrays that the kernel shares: orders by value sorts, ranges laid end to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = [
    "BLOCK_ROWS",
    "Bools",
    "Floats",
    "Ints",
    "Words",
    "blocks",
    "chunks",
    "in_order",
    "order_by",
    "order_of",
    "ranges",
    "totals",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

_USABLE_BITS = 63
"""Bits of a non-negative int64."""

BLOCK_ROWS = 1 << 15
"""Rows that are swept at once: 256 kB a column stay in the processor's cache and are used again."""


def order_of(values: Ints) -> Ints:
    """The stable order that sorts ``values``.

    Value and position are packed into one integer and sorted by value, which
    numpy does several times faster than an argsort; where the two do not fit
    into 63 bits, a stable argsort does it.
    """
    size = len(values)
    if size == 0:
        return np.empty(0, dtype=np.int64)
    position_bits = max(1, int(size - 1).bit_length())
    low = int(values.min())
    if (int(values.max()) - low).bit_length() + position_bits > _USABLE_BITS:
        return np.argsort(values, kind="stable")
    packed = (values - low) << position_bits
    packed |= np.arange(size)
    packed.sort()
    packed &= (1 << position_bits) - 1
    return packed


def in_order(*values: Ints) -> Ints:
    """The different values of all, ascending."""
    every = np.concatenate(values)
    every.sort()
    is_new = np.ones(len(every), dtype=np.bool_)
    np.not_equal(every[1:], every[:-1], out=is_new[1:])
    return every[is_new]


def ranges(firsts: Ints, counts: Ints) -> Ints:
    """``firsts[0], firsts[0] + 1, … `` (``counts[0]`` of them), then those of ``firsts[1]``, and so on."""
    before = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) + np.repeat(firsts - before, counts)


def totals(values: npt.NDArray[np.generic], counts: Ints) -> Ints:
    """The sums of consecutive runs of ``values``, ``counts`` long each; 0 for an empty run."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    stops = np.cumsum(counts)
    return sums[stops] - sums[stops - counts]


def blocks(size: int) -> Iterator[slice]:
    """Consecutive slices that cover ``size`` rows, a block each."""
    for first in range(0, size, BLOCK_ROWS):
        yield slice(first, min(first + BLOCK_ROWS, size))


def chunks(counts: Ints, rows: int) -> Iterator[slice]:
    """Slices of ``counts`` that each sum to at most ``rows``, a larger one alone."""
    done = np.cumsum(counts)
    first = 0
    while first < len(counts):
        so_far = int(done[first] - counts[first])
        stop = max(first + 1, int(np.searchsorted(done, so_far + rows, side="right")))
        yield slice(first, stop)
        first = stop


def order_by(*keys: Ints) -> Ints:
    """What ``numpy.lexsort(keys)`` gives, in a third of the time where most values of the last key stand there once.

    Each further key orders the rows that are still alike alone. Sorts by value
    are what numpy does with the processor's wide registers.
    """
    order = np.argsort(keys[-1])
    ordered = keys[-1][order]
    places = np.arange(len(order))
    for key in (*keys[-2::-1], np.arange(len(order))):
        is_again = np.zeros(len(places) + 1, dtype=np.bool_)
        is_again[1:-1] = ordered[1:] == ordered[:-1]
        alike = np.flatnonzero(is_again[1:] | is_again[:-1])
        if not len(alike):
            break
        group = np.cumsum(~is_again[:-1])[alike]  # rows stand behind each other where they are alike
        places = places[alike]
        rows = order[places]
        ordered, turned = _within(group, key[rows])
        order[places] = rows[turned]
    return order


def _within(group: Ints, key: Ints) -> tuple[Ints, Ints]:
    """The order of rows by group, which ascends, and key; and numbers that are as alike as both, in that order."""
    low = int(key.min())
    bits = (int(key.max()) - low).bit_length()
    if bits + int(group[-1]).bit_length() > _USABLE_BITS:
        _, key = np.unique(key, return_inverse=True)
        return _within(group, key)
    packed = group << bits | (key - low)
    turned = np.argsort(packed)
    return packed[turned], turned
