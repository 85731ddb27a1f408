"""What was heard, divided up by something that is known of each session: a country, an app, a referrer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Bools, Ints, in_order, ranges
from .correlate import Listening

__all__ = ["OTHER", "PeriodLabels", "Share", "capped", "label_periods", "label_sums"]

OTHER = "*"
"""The value of all that have no row of their own: no country, app or host is called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one value was heard. ``inherited`` sessions had begun before the period, ``begun`` ones in it."""

    value: str
    listening_ms: int
    inherited: int
    begun: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeriodLabels:
    """Of each period and label, a row and a column: listening, and the sessions that have a part in it."""

    listening_ms: Ints
    inherited: Ints
    begun: Ints

    def together(self, other: PeriodLabels) -> PeriodLabels:
        """The sums of two streams: no session is of both."""
        return PeriodLabels(
            listening_ms=self.listening_ms + other.listening_ms,
            inherited=self.inherited + other.inherited,
            begun=self.begun + other.begun,
        )

    def by(self, value: Ints, values: int) -> PeriodLabels:
        """The same by ``value``, of each label a number below ``values``."""

        def summed(columns: Ints) -> Ints:
            sums = np.zeros((len(columns), values), dtype=np.int64)
            np.add.at(sums, (slice(None), value), columns)
            return sums

        return PeriodLabels(
            listening_ms=summed(self.listening_ms), inherited=summed(self.inherited), begun=summed(self.begun)
        )


def label_periods(
    listening: Listening, label: Ints, labels: int, starts_ms: Ints, ends_ms: Ints, masks: Sequence[Bools]
) -> list[PeriodLabels]:
    """For each of ``masks``, which say who counts, what each label (a number below ``labels``) heard of each period.

    The periods are ascending and do not overlap; what lies between two of them is left out.
    """
    session, period, heard_ms = _pieces(listening, starts_ms, ends_ms)
    place = period * labels + label[session]
    met = in_order(session * len(starts_ms) + period)  # of a session's parts in one period, one
    met_session, met_period = np.divmod(met, max(len(starts_ms), 1))
    met_place = met_period * labels + label[met_session]
    is_begun = listening.started_ms[met_session] >= starts_ms[met_period]
    size = len(starts_ms) * labels

    def table(some: Ints, weights: Ints | None = None) -> Ints:
        # Sums of milliseconds stay far below 2^53, up to where a double counts exactly.
        return np.bincount(some, weights, minlength=size).astype(np.int64).reshape(len(starts_ms), labels)

    found = []
    for mask in masks:
        kept, met_kept = mask[session], mask[met_session]
        found.append(
            PeriodLabels(
                listening_ms=table(place[kept], heard_ms[kept]),
                inherited=table(met_place[met_kept & ~is_begun]),
                begun=table(met_place[met_kept & is_begun]),
            )
        )
    return found


def label_sums(listening: Listening, label: Ints, labels: int, starts_ms: Ints, ends_ms: Ints) -> tuple[Ints, Ints]:
    """Of each label, the listening within all of the periods, and the sessions that have a part in one of them."""
    session, _, heard_ms = _pieces(listening, starts_ms, ends_ms)
    met = in_order(session)
    heard = np.bincount(label[session], heard_ms, minlength=labels).astype(np.int64)
    return heard, np.bincount(label[met], minlength=labels)


def capped(shares: Sequence[Share], most: int, *, always: frozenset[str] = frozenset()) -> list[Share]:
    """The ``most`` values that were heard longest, and those of ``always``; at last what is left in one, :data:`OTHER`.

    What was of OTHER already is in it. The sums stay. Of equals the one with more sessions comes first, then the first
    by name.
    """
    ranked = sorted(shares, key=lambda one: (-one.listening_ms, -one.inherited - one.begun, one.value))
    named = [one for one in ranked if one.value not in always and one.value != OTHER]
    rest = [*named[most:], *(one for one in ranked if one.value == OTHER)]
    gone = {one.value for one in rest}
    kept = [one for one in ranked if one.value not in gone]
    if rest:
        kept.append(
            Share(
                value=OTHER,
                listening_ms=sum(one.listening_ms for one in rest),
                inherited=sum(one.inherited for one in rest),
                begun=sum(one.begun for one in rest),
            )
        )
    return kept


def _pieces(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> tuple[Ints, Ints, Ints]:
    """The parts cut at the periods: session, period and milliseconds of each piece that is not empty."""
    begins, stops = listening.part_started_ms, listening.part_ended_ms
    first = np.searchsorted(ends_ms, begins, side="right")
    counts = np.maximum(np.searchsorted(starts_ms, stops, side="left") - first, 0)
    of = np.repeat(np.arange(len(begins)), counts)
    period = ranges(first, counts)
    heard_ms = np.minimum(stops[of], ends_ms[period]) - np.maximum(begins[of], starts_ms[period])
    kept = heard_ms > 0
    return listening.part_session[of[kept]], period[kept], heard_ms[kept]
