"""Whether a figure is unusual: against the same figure of others, and a count against an expected rate.

Audiences are few, skewed, and now and then out by an outage or an event, so
that nothing here supposes a bell curve: medians, ranks and exact counts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Usual", "chance_of_count", "usual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What a figure usually is: ``values`` of others, sorted, at least one.

    ``spread`` is the median absolute deviation: half of the values lie within
    it of the median, and a single odd one does not move it. Hampel, The
    influence curve and its role in robust estimation, 1974.
    """

    values: tuple[float, ...]
    median: float
    spread: float

    @property
    def least(self) -> float:
        return self.values[0]

    @property
    def most(self) -> float:
        return self.values[-1]

    def as_far(self, value: float) -> int:
        """How many of the others are as far out as ``value`` on its side of the median, or further."""
        if value >= self.median:
            return sum(one >= value for one in self.values)
        return sum(one <= value for one in self.values)

    def chance(self, value: float) -> float:
        """How often one that is nothing special comes out as far on that side: its rank among all, itself included.

        One above all of n others: 1/(n + 1). Never 0: Phipson and Smyth,
        Permutation P-values should never be zero, 2010. As a range for the
        next one: Hahn and Meeker, Statistical Intervals, 1991, section 5.4.
        """
        return (self.as_far(value) + 1) / (len(self.values) + 1)


def usual(values: Sequence[float]) -> Usual:
    """What ``values`` usually are. Raises ValueError where there are none."""
    if not values:
        raise ValueError("No values to say what is usual: give at least one.")
    median = statistics.median(values)
    return Usual(
        values=tuple(sorted(values)),
        median=median,
        spread=statistics.median(abs(one - median) for one in values),
    )


def chance_of_count(count: int, other_count: int, share: float) -> float:
    """How often chance alone brings ``count`` or more of all ``count + other_count`` events into ``share`` of the time.

    For two counts at one and the same rate: exact, for however few. Przyborowski and Wilenski,
    Homogeneity of results in testing samples from Poisson series, 1940.
    Raises ValueError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"Share {share!r} of the time: it must lie between 0 and 1, both excluded.")
    total = count + other_count
    inside, outside = math.log(share), math.log1p(-share)
    terms = (
        math.exp(_log_ways(total, hits) + hits * inside + (total - hits) * outside) for hits in range(count, total + 1)
    )
    return min(math.fsum(terms), 1.0)


def _log_ways(total: int, hits: int) -> float:
    """The logarithm of how many ways there are to choose ``hits`` of ``total``."""
    return math.lgamma(total + 1) - math.lgamma(hits + 1) - math.lgamma(total - hits + 1)
