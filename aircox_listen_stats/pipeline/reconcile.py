"""The agreement of two tellings of one stream's hours, in figures and line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..fields import from_ms
from ..kernel.agreement import Agreement, Telling, agree

__all__ = ["COLUMNS", "Reconciled", "Totals", "reconcile", "within"]

MS = 1000

COLUMNS = ("found", "start_one", "end_one", "seconds_one", "start_other", "end_other", "seconds_other", "why")
"""Of a line of the CSV; ``found`` is both, one or other. Instants are UTC, nobody is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sessions and what was heard of them inside the window, in seconds."""

    sessions: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reconciled:
    """Two tellings and how far they agree."""

    one: Telling
    other: Telling
    agreement: Agreement
    same_keys: bool

    @property
    def in_one(self) -> Totals:
        return _totals(self.one)

    @property
    def in_other(self) -> Totals:
        return _totals(self.other)

    @property
    def matched(self) -> tuple[Totals, Totals]:
        """The sessions that both have, as either side heard them."""
        pairs = self.agreement.pairs
        return _totals(self.one, [pair.one for pair in pairs]), _totals(self.other, [pair.other for pair in pairs])

    @property
    def ways(self) -> dict[str, int]:
        """How many pairs agree on what."""
        return dict(Counter(str(pair.how) for pair in self.agreement.pairs))

    def reasons(self, *, missing_in_one: bool) -> dict[str, Totals]:
        """What one side lacks, by the likely reason, most seconds first."""
        told = self.other if missing_in_one else self.one
        some = self.agreement.only_other if missing_in_one else self.agreement.only_one
        by_reason: dict[str, list[int]] = {}
        for one in some:
            by_reason.setdefault(str(one.why), []).append(one.number)
        found = {why: _totals(told, numbers) for why, numbers in by_reason.items()}
        return dict(sorted(found.items(), key=lambda item: (-item[1].seconds, item[0])))

    def errors(self) -> dict[str, tuple[float, float]]:
        """Of the pairs, the median and the largest difference (the other side less this one) in seconds.

        The other side's clock is put right first. Ends of sessions that are still open are left out.
        """
        pairs = self.agreement.pairs
        one = np.array([pair.one for pair in pairs], dtype=np.int64)
        other = np.array([pair.other for pair in pairs], dtype=np.int64)
        closed = ~(self.one.is_open[one] | self.other.is_open[other]) if pairs else np.empty(0, dtype=np.bool_)
        shift = self.agreement.offset_ms
        return {
            "start": _spread(self.other.started_ms[other] - shift - self.one.started_ms[one]),
            "end": _spread((self.other.ended_ms[other] - shift - self.one.ended_ms[one])[closed]),
        }

    def lines(self) -> Iterator[tuple[str | float, ...]]:
        """Every session of both sides once, in the order of COLUMNS, by start."""
        found = [
            (int(self.one.started_ms[pair.one]), ("both", pair.one, pair.other, f"same {pair.how}"))
            for pair in self.agreement.pairs
        ]
        found += [
            (int(self.one.started_ms[lone.number]), ("one", lone.number, None, str(lone.why)))
            for lone in self.agreement.only_one
        ]
        shift = self.agreement.offset_ms
        found += [
            (int(self.other.started_ms[lone.number]) - shift, ("other", None, lone.number, str(lone.why)))
            for lone in self.agreement.only_other
        ]
        for _, (where, one, other, why) in sorted(found, key=lambda item: item[0]):
            yield (where, *_shown(self.one, one), *_shown(self.other, other), why)


def reconcile(one: Telling, other: Telling, *, same_keys: bool) -> Reconciled:
    """How far the two agree; ``same_keys``: listeners can be told by their keys."""
    return Reconciled(one=one, other=other, agreement=agree(one, other, same_keys=same_keys), same_keys=same_keys)


def within(told: Telling, from_ms_: int, to_ms_: int) -> Telling:
    """The sessions of ``told`` that touch the window."""
    inside = (told.started_ms < to_ms_) & (np.maximum(told.ended_ms, told.started_ms + 1) > from_ms_)
    return told.only(inside)


def _totals(told: Telling, numbers: Sequence[int] | None = None) -> Totals:
    heard_ms = told.heard_ms if numbers is None else told.heard_ms[np.array(numbers, dtype=np.int64)]
    return Totals(sessions=len(heard_ms), seconds=float(heard_ms.sum()) / MS)


def _spread(differences_ms: np.ndarray) -> tuple[float, float]:
    if not len(differences_ms):
        return 0.0, 0.0
    largest = differences_ms[np.argmax(np.abs(differences_ms))]
    return float(np.median(differences_ms)) / MS, float(largest) / MS


def _shown(told: Telling, number: int | None) -> tuple[str | float, ...]:
    if number is None:
        return "", "", ""
    start, end = from_ms(int(told.started_ms[number])), from_ms(int(told.ended_ms[number]))
    return (
        start.isoformat(timespec="seconds"),
        "" if told.is_open[number] else end.isoformat(timespec="seconds"),
        float(told.heard_ms[number]) / MS,
    )
