"""Distinct listeners of many days out of one small sketch per day, with the bounds of the error.

A sketch is a Theta sketch (Dasgupta, Lang, Rhodes and Thaler, "A framework for
estimating stream expression cardinalities", ICDT 2016), as Apache DataSketches
writes it: below SKETCH_KEYS keys it holds all of them and is exact, above it a
sample. Sketches of one secret merge in any order; cumes are never added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import datasketches
import numpy as np

from .arrays import Ints
from .identity import household_keys

__all__ = ["CONFIDENCE", "SKETCH_KEYS", "Estimate", "distinct", "period_keys", "reach", "sketch"]

LG_KEYS = 12
SKETCH_KEYS = 1 << LG_KEYS
"""Keys that a sketch holds: 32 KiB at most, 3.1 % of error at the printed confidence."""

STANDARD_DEVIATIONS = 2
CONFIDENCE = 0.95
"""How often the count lies within the bounds: two standard deviations."""

MOST_LANES = 256
"""Members of one household that are looked for: as many as the addresses of the smallest network that one shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How many there are; surely so many where it is exact, else within the bounds at CONFIDENCE."""

    count: int
    lower: int
    upper: int

    @property
    def is_exact(self) -> bool:
        return self.lower == self.upper


def sketch(keys: Ints) -> bytes:
    """The sketch of these keys; of how often each is there it keeps nothing."""
    made = datasketches.update_theta_sketch(LG_KEYS)
    for key in np.unique(keys).tolist():
        made.update(key)
    return made.compact().serialize()


def distinct(sketches: Iterable[bytes]) -> Estimate:
    """How many different keys all the sketches together have seen; 0 of none."""
    union = datasketches.theta_union(LG_KEYS)
    for one in sketches:
        union.update(datasketches.compact_theta_sketch.deserialize(one))
    found = union.get_result()
    return Estimate(
        count=round(found.get_estimate()),
        lower=math.floor(found.get_lower_bound(STANDARD_DEVIATIONS)),
        upper=math.ceil(found.get_upper_bound(STANDARD_DEVIATIONS)),
    )


def reach(known: Iterable[bytes], strangers: Iterable[bytes]) -> Estimate:
    """How many listeners: those ``known`` by keys of the whole period, and ``strangers`` known by their day's alone.

    Whether a stranger is one of the known, or a stranger of another day too, is not
    known: the lower bound leaves all of them out (but where there is nobody else),
    the count and the upper bound count each.
    """
    sure, rest = distinct(known), distinct(strangers)
    lower = max(sure.lower, min(1, rest.lower))  # one listener at least
    return Estimate(count=sure.count + rest.count, lower=lower, upper=sure.upper + rest.upper)


def period_keys(listener: Ints, bases: Ints, keys: Ints) -> tuple[Ints, Ints]:
    """The different keys, under the period's secret, of ``listener``; and the listeners that have none.

    ``bases`` (ascending, each once) are the listeners whose ``keys`` are known.
    Further members of a household (:func:`~.identity.household_keys`) are found by
    theirs, and are the same member of it all through the period.
    """
    rest = np.unique(listener)
    found = []
    for lane in range(MOST_LANES):
        if not len(rest) or not len(bases):
            break
        lanes = np.full(len(bases), lane, dtype=np.int64)
        names = household_keys(bases, lanes)
        is_met = np.isin(names, rest)
        if lane and not is_met.any():
            break
        found.append(household_keys(keys[is_met], lanes[is_met]))
        rest = np.setdiff1d(rest, names[is_met], assume_unique=False)
    return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64), rest
