"""How many distinct listeners several parts had together, where a key names one only as long as its secret lives.

Two keys made under one secret are two listeners. Two keys made under two
secrets may be one: what returns in another period cannot be recognised. So
the number lies in a range, which is a single number where all keys are of one
period.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Part", "Range", "distinct"]


class Range(NamedTuple):
    """A number that is not known better: ``lower`` and ``upper`` are both possible."""

    lower: int
    upper: int

    @property
    def is_exact(self) -> bool:
        return self.lower == self.upper


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Who heard one part of a whole.

    ``keys``: by the instant at which the period of their secret began. ``unplaced``: keys of which that is not known.
    ``at_least`` and ``strangers``: how many there were at least, and how many at most beside those with a key.
    """

    keys: Mapping[int, frozenset[int]] = field(default_factory=dict)
    unplaced: frozenset[int] = frozenset()
    at_least: int = 0
    strangers: int = 0

    @classmethod
    def counted(cls, listeners: int) -> Part:
        """A part of which the number alone is left."""
        return cls(at_least=listeners, strangers=listeners)


def distinct(parts: Iterable[Part]) -> Range:
    """The distinct listeners of all parts together; (0, 0) of none.

    At least: as many as the fullest part had, or as many keys as one period has in all parts. At most: all keys, each
    once, and every stranger. A key that is told of in several periods is of the first: a session that goes on keeps it.
    """
    first: dict[int, int] = {}
    everybody: set[int] = set()
    least = strangers = 0
    for part in parts:
        for period_ms, keys in part.keys.items():
            first.update((key, min(period_ms, first.get(key, period_ms))) for key in keys)
        everybody |= part.unplaced
        strangers += part.strangers
        least = max(least, part.at_least)
    everybody.update(first)
    somebody = min(len(everybody) + strangers, 1)
    return Range(max(least, somebody, *Counter(first.values()).values()), len(everybody) + strangers)
