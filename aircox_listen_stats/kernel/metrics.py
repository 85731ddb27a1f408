"""The trade's figures, one function for each definition: docs/figures.md says what each one means.

Stitch first, filter after: :func:`counting` keeps the sessions that count under
a rule-set, and everything else takes what is left. :class:`Periods` tells the
figures of any number of periods at once; no step loops over sessions or
periods. Hours are real elapsed hours; listening is what lies inside a period.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .arrays import Bools, Floats, Ints, chunks, in_order, order_of, ranges, totals
from .correlate import AudienceColumns, Listening, audience, listening_ms, retained, still_there
from .types import RuleSet

__all__ = [
    "FIVE_MINUTES_MS",
    "QUARTER_HOUR_MS",
    "UNKNOWN",
    "PeriodFigures",
    "Periods",
    "apportioned",
    "counted",
    "counting",
    "coverage",
    "coverages",
    "figures",
    "played_ms",
    "quarter_hour_listeners",
    "reach",
    "retention",
]

S = 1000
HOUR_MS = 3_600_000

QUARTER_HOUR_MS = 900_000
"""Clock quarter-hours are counted on UTC: every zone's offset is a multiple of a quarter-hour (IANA, since 1979)."""

FIVE_MINUTES_MS = 300_000
"""What makes a listener of a quarter-hour, and of a week. Nielsen, RAJAR."""

UNKNOWN = -1
"""An amount of a session that its source does not tell. Unknown is not zero."""

_CHUNK_ROWS = 1 << 20
"""Pieces of listening that are looked at once."""

_PRODUCT_BITS = 62
"""A product of two numbers fits into an int64 when their bits together are no more."""


# What counts -------------------------------------------------------------------------------------


def counted(played: Ints, rules: RuleSet, *, listening: Listening | None = None) -> Bools:
    """Which sessions, with ``played`` milliseconds each, have been heard long enough to count under ``rules``.

    A rule-set with ``quarter_hour_seconds`` needs ``listening``, with the same
    sessions: so much must have been heard within one clock quarter-hour.
    Raises ValueError where it is missing.
    """
    minimum_ms = rules.minimum_seconds * S
    mask = played > minimum_ms if rules.minimum_is_strict else played >= minimum_ms
    if rules.quarter_hour_seconds <= 0:
        return mask
    if listening is None or len(listening) != len(played):
        raise ValueError(
            f"Rule-set {rules.name!r} looks into clock quarter-hours and needs listening=, with the same sessions."
        )
    return mask & _has_quarter(listening, mask, rules.quarter_hour_seconds * S)


def counting(listening: Listening, rules: RuleSet) -> Listening:
    """The sessions that count under ``rules``.

    How long an open session will be is not known: it counts until it has ended too short.
    """
    mask = counted(played_ms(listening), rules, listening=listening) | listening.is_open
    return listening if mask.all() else listening.only(mask)


def played_ms(listening: Listening) -> Ints:
    """What was heard of each session: the length of its parts."""
    played = np.zeros(len(listening), dtype=np.int64)
    parts = listening.parts
    np.add.at(played, parts.session, parts.ended_ms - parts.started_ms)
    return played


# The figures of periods --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Periods:
    """The figures of the periods ``[starts_ms, ends_ms)``, in any order, from ``listening`` that counts.

    Every figure is an array with one element for each period, made when it is
    first asked for; 0 for a period of no length and where nobody listened.
    """

    listening: Listening
    starts_ms: Ints
    ends_ms: Ints

    def __post_init__(self) -> None:
        for name in ("starts_ms", "ends_ms"):
            object.__setattr__(self, name, np.atleast_1d(np.asarray(getattr(self, name), dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.starts_ms)

    @cached_property
    def audience(self) -> AudienceColumns:
        """Who heard each period, as of an airing."""
        return audience(self.listening, self.starts_ms, self.ends_ms)

    @cached_property
    def lengths_ms(self) -> Ints:
        """Real elapsed time: the day of a change of the clock has 23 or 25 hours."""
        return np.maximum(self.ends_ms - self.starts_ms, 0)

    @property
    def tlh(self) -> Floats:
        """Total listening hours: the *sum* of the sessions inside the period; stream-hours. Triton, Webcast Metrics."""
        return self.audience.listening_ms / HOUR_MS

    @cached_property
    def person_hours(self) -> Floats:
        """Hours of the *union* of each listener's sessions: who hears two streams at once listens once."""
        return listening_ms(self.listening.persons, self.starts_ms, self.ends_ms) / HOUR_MS

    @cached_property
    def elapsed_hours(self) -> Floats:
        """Hours from the first to the last instant of each session, its silences included. openbroadcast's duration."""
        silent = listening_ms(self.listening.silences, self.starts_ms, self.ends_ms)
        return (self.audience.listening_ms + silent) / HOUR_MS

    @property
    def aas(self) -> Floats:
        """Average active sessions, the average audience: TLH by elapsed hours. Triton, Webcast Metrics."""
        return _ratio(self.audience.listening_ms, self.lengths_ms)

    @property
    def active_sessions(self) -> Ints:
        """AS: sessions heard in the period. Triton, Webcast Metrics."""
        return self.audience.sessions

    @property
    def started_sessions(self) -> Ints:
        """SS: sessions that began in the period. Triton, Webcast Metrics."""
        return self.audience.joined

    @property
    def atsl_seconds(self) -> Floats:
        """Average time spent listening: listening in the period by AS. Triton; StreamMachine's notes."""
        return _ratio(self.audience.listening_ms / S, self.audience.sessions)

    @property
    def cume(self) -> Ints:
        """Distinct listeners of the period. Two cumes are never added. Triton, Webcast Metrics."""
        return self.audience.listeners

    @property
    def tsl_seconds(self) -> Floats:
        """Time spent listening: listening in the period by CUME. Triton, Webcast Metrics."""
        return _ratio(self.audience.listening_ms / S, self.audience.listeners)

    @property
    def tsl_quarter_hours(self) -> Floats:
        """Quarter-hours with five minutes in them, by listeners with at least one. Nielsen Audio."""
        return _ratio(self._quarters.enough, self._quarters.listeners)

    @property
    def aqh(self) -> Floats:
        """Average quarter-hour: the mean of those who heard five minutes *in aggregate*. Triton, Webcast Metrics."""
        return _ratio(self._quarters.enough, self._quarters.touched)

    @property
    def aqh_in_one_piece(self) -> Floats:
        """Average quarter-hour persons: the mean of those who heard five minutes *without a break*. Nielsen Audio."""
        return _ratio(self._quarters.enough_in_one_piece, self._quarters.touched)

    @cached_property
    def reach(self) -> Ints:
        """Listeners with five minutes in the period, a week. RAJAR. For a daypart of the week: :func:`reach`."""
        return reach(self.listening, self.starts_ms, self.ends_ms, np.arange(len(self)))

    @property
    def peak(self) -> Ints:
        """The highest concurrency."""
        return self.audience.peak

    @property
    def peak_at_ms(self) -> Ints:
        """The instant at which the peak began, -1 where nobody listened."""
        return self.audience.peak_at_ms

    @property
    def performances(self) -> Ints:
        """One track by one listener, any portion; the periods are tracks. 37 CFR 380. Rule-set ``all``."""
        return self.audience.listeners

    @property
    def ath(self) -> float:
        """Aggregate tuning hours: listener-hours of music; the periods are tracks. 37 CFR 380. Rule-set ``all``."""
        return int(self.audience.listening_ms.sum()) / HOUR_MS

    @cached_property
    def delivered_hours(self) -> Floats:
        """Hours of sound that were sent, where that is told (segments); ``delivered_share`` says of how much.

        Beside, never in place of, what was played: StreamMachine's notes leave open which of both is listening.
        """
        return apportioned(self.listening, self.listening.delivered_ms, self.starts_ms, self.ends_ms) / HOUR_MS

    @cached_property
    def delivered_share(self) -> Floats:
        """The share of TLH whose sessions tell what was delivered."""
        return self._share_that_tells(self.listening.delivered_ms)

    @cached_property
    def bytes_sent(self) -> Ints:
        """Bytes, where a session tells them, spread evenly over what was heard of it."""
        return apportioned(self.listening, self.listening.bytes_sent, self.starts_ms, self.ends_ms)

    @cached_property
    def bytes_share(self) -> Floats:
        """The share of TLH whose sessions tell their bytes."""
        return self._share_that_tells(self.listening.bytes_sent)

    def _share_that_tells(self, amounts: Ints | None) -> Floats:
        if amounts is None:
            return np.zeros(len(self))
        telling = listening_ms(self.listening.only(amounts >= 0), self.starts_ms, self.ends_ms)
        return _ratio(telling, self.audience.listening_ms)

    @cached_property
    def _quarters(self) -> _QuarterColumns:
        return _quarters(self.listening, self.starts_ms, self.ends_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodFigures:
    """The table of figures of one period under one rule-set. ``coverage`` is None where it was not told."""

    rule_set: str
    started_ms: int
    ended_ms: int
    tlh: float
    person_hours: float
    elapsed_hours: float
    delivered_hours: float
    delivered_share: float
    bytes_sent: int
    bytes_share: float
    aas: float
    active_sessions: int
    started_sessions: int
    atsl_seconds: float
    cume: int
    tsl_seconds: float
    tsl_quarter_hours: float
    aqh: float
    aqh_in_one_piece: float
    reach: int
    peak: int
    peak_at_ms: int | None
    coverage: float | None = None


_FIGURES = tuple(
    name
    for name in PeriodFigures.__dataclass_fields__
    if name not in ("rule_set", "started_ms", "ended_ms", "peak_at_ms", "coverage")
)


def figures(
    listening: Listening,
    starts_ms: Ints,
    ends_ms: Ints,
    rules: RuleSet,
    *,
    observed: Iterable[tuple[int, int]] | None = None,
) -> list[PeriodFigures]:
    """All figures of each period from *all* sessions, those that count under ``rules`` taken.

    ``observed`` are the stretches in which the source was really observed, for the coverage.
    """
    periods = Periods(listening=counting(listening, rules), starts_ms=starts_ms, ends_ms=ends_ms)
    columns = [getattr(periods, name).tolist() for name in _FIGURES]
    known = (
        [None] * len(periods) if observed is None else coverages(observed, periods.starts_ms, periods.ends_ms).tolist()
    )
    return [
        PeriodFigures(
            rule_set=rules.name,
            started_ms=start,
            ended_ms=end,
            peak_at_ms=None if peak_at < 0 else peak_at,
            coverage=share,
            **dict(zip(_FIGURES, row, strict=True)),
        )
        for start, end, peak_at, share, row in zip(
            periods.starts_ms.tolist(),
            periods.ends_ms.tolist(),
            periods.peak_at_ms.tolist(),
            known,
            zip(*columns, strict=True),
            strict=True,
        )
    ]


# Figures with an own shape -----------------------------------------------------------------------


def quarter_hour_listeners(listening: Listening, start_ms: int, end_ms: int, *, in_one_piece: bool = False) -> Ints:
    """For each clock quarter-hour that the period touches, who heard five minutes of it.

    In aggregate, or ``in_one_piece``. What lies outside the period is not
    counted, also where the period cuts a quarter-hour. Triton; Nielsen Audio.
    """
    starts, ends = _clipped_quarters(start_ms, end_ms)
    found = _QualifiedCells.of(listening, starts, ends)
    return found.in_one_piece if in_one_piece else found.in_aggregate


def reach(listening: Listening, starts_ms: Ints, ends_ms: Ints, group: Ints) -> Ints:
    """Listeners with five minutes in all slots of each group together. RAJAR.

    ``group`` numbers the group of each slot from 0: a week is a group of one
    slot, one of its dayparts a group of seven.
    """
    starts, ends = np.asarray(starts_ms, dtype=np.int64), np.asarray(ends_ms, dtype=np.int64)
    group = np.asarray(group, dtype=np.int64)
    size = int(group.max()) + 1 if len(group) else 0
    nothing = np.empty(0, dtype=np.int64)
    keys, lengths = [nothing], [nothing]
    for layer in _layers(starts, ends):
        for pieces in _pieces(listening, starts[layer], ends[layer]):
            key, length = _summed(pieces.person * size + group[layer][pieces.slot], pieces.ended_ms - pieces.started_ms)
            keys.append(key)
            lengths.append(length)
    key, length = _summed(np.concatenate(keys), np.concatenate(lengths))
    return np.bincount(key[length >= FIVE_MINUTES_MS] % max(size, 1), minlength=size)


def retention(listening: Listening, start_ms: int, end_ms: int, *, of_all: bool = False) -> Floats:
    """The share that is still there at each whole minute: of those who heard the start, or of all who met the airing.

    Of all, who has not come yet is not there yet. 0 where there was nobody.
    """
    if not of_all:
        there = retained(listening, start_ms, end_ms)
        return _ratio(there, there[:1])
    met = audience(listening, np.array([start_ms]), np.array([end_ms])).sessions
    return _ratio(still_there(listening, start_ms, end_ms), met)


def coverage(observed: Iterable[tuple[int, int]], start_ms: int, end_ms: int) -> float:
    """The share of the period in which the source was really observed, 0 to 1; 1.0 for no time."""
    return float(coverages(observed, np.array([start_ms]), np.array([end_ms]))[0])


def coverages(observed: Iterable[tuple[int, int]], starts_ms: Ints, ends_ms: Ints) -> Floats:
    """:func:`coverage` of several periods at once. A gap is unknown, never zero."""
    starts, ends = np.asarray(starts_ms, dtype=np.int64), np.asarray(ends_ms, dtype=np.int64)
    spans = np.array(sorted(observed), dtype=np.int64).reshape(-1, 2)
    together = Listening.whole(started_ms=spans[:, 0], ended_ms=spans[:, 1], listener=np.zeros_like(spans[:, 0]))
    covered = listening_ms(together.persons, starts, ends)
    return np.where(ends > starts, _ratio(covered, ends - starts), 1.0)


def apportioned(listening: Listening, amounts: Ints | None, starts_ms: Ints, ends_ms: Ints) -> Ints:
    """What falls on each period of an amount of each session, spread evenly over what was heard of it.

    Whole numbers that add up: periods that tile a session share its amount out
    to the last byte. ``UNKNOWN`` amounts, all that are negative, and None give nothing.
    """
    starts = np.asarray(starts_ms, dtype=np.int64)
    ends = np.maximum(np.asarray(ends_ms, dtype=np.int64), starts)
    if amounts is None or len(starts) == 0 or len(listening) == 0:
        return np.zeros(len(starts), dtype=np.int64)
    instants = in_order(starts, ends)
    until = _amount_until(listening, np.maximum(amounts, 0), instants)
    return until[np.searchsorted(instants, ends)] - until[np.searchsorted(instants, starts)]


# Clock quarter-hours -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _QuarterColumns:
    """Of each period: quarter-hours that it touches, those with five minutes of a listener, and of how many."""

    touched: Ints
    enough: Ints
    enough_in_one_piece: Ints
    listeners: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _QualifiedCells:
    """Of disjoint, ascending cells no longer than a quarter-hour: how many heard five minutes, and who (by person)."""

    in_aggregate: Ints
    in_one_piece: Ints
    person: Ints
    cell: Ints

    @classmethod
    def of(cls, listening: Listening, starts: Ints, ends: Ints) -> _QualifiedCells:
        in_aggregate, in_one_piece = np.zeros((2, len(starts)), dtype=np.int64)
        people, cells = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for pieces in _pieces(listening, starts, ends):
            at = np.flatnonzero(pieces.is_first)
            length = pieces.ended_ms - pieces.started_ms
            enough = at[np.add.reduceat(length, at) >= FIVE_MINUTES_MS]
            longest = at[np.maximum.reduceat(length, at) >= FIVE_MINUTES_MS]
            in_aggregate += np.bincount(pieces.slot[enough], minlength=len(starts))
            in_one_piece += np.bincount(pieces.slot[longest], minlength=len(starts))
            people.append(pieces.person[enough])
            cells.append(pieces.slot[enough])
        return cls(
            in_aggregate=in_aggregate,
            in_one_piece=in_one_piece,
            person=np.concatenate(people),
            cell=np.concatenate(cells),
        )


def _quarters(listening: Listening, starts: Ints, ends: Ints) -> _QuarterColumns:
    """Full quarter-hours are looked at once for all periods; those that a period cuts, for this period."""
    lasts = ends > starts
    first, stop = -(-starts // QUARTER_HOUR_MS), ends // QUARTER_HOUR_MS
    stop = np.where(lasts, np.maximum(stop, first), first)
    full = _laid_out(first, stop)
    cells = _QualifiedCells.of(listening, full * QUARTER_HOUR_MS, (full + 1) * QUARTER_HOUR_MS)
    low, high = np.searchsorted(full, first), np.searchsorted(full, stop)
    counts = [np.concatenate(([0], np.cumsum(some))) for some in (cells.in_aggregate, cells.in_one_piece)]
    enough, in_one_piece = (some[high] - some[low] for some in counts)
    listeners = audience(_runs(cells, full), first * QUARTER_HOUR_MS, stop * QUARTER_HOUR_MS).listeners
    period, cut_starts, cut_ends = _cut_quarters(starts, ends)
    who = [np.empty((2, 0), dtype=np.int64)]
    for layer in _layers(cut_starts, cut_ends):
        cut = _QualifiedCells.of(listening, cut_starts[layer], cut_ends[layer])
        enough += np.bincount(period[layer], cut.in_aggregate, len(starts)).astype(np.int64)
        in_one_piece += np.bincount(period[layer], cut.in_one_piece, len(starts)).astype(np.int64)
        who.append(np.stack((period[layer][cut.cell], cut.person)))
    listeners += _only_in_cuts(np.concatenate(who, axis=1), cells, low, high)
    return _QuarterColumns(
        touched=np.where(lasts, -(-ends // QUARTER_HOUR_MS) - starts // QUARTER_HOUR_MS, 0),
        enough=enough,
        enough_in_one_piece=in_one_piece,
        listeners=listeners,
    )


def _only_in_cuts(who: Ints, cells: _QualifiedCells, low: Ints, high: Ints) -> Ints:
    """Of pairs (period, person) from cut quarter-hours, how many of each period have no full quarter-hour in it."""
    period, person = np.unique(who, axis=1)
    width = int(high.max(initial=0)) + 1
    known = cells.person * width + cells.cell  # ascends
    has_full = np.searchsorted(known, person * width + high[period]) > np.searchsorted(
        known, person * width + low[period]
    )
    return np.bincount(period[~has_full], minlength=len(low))


def _runs(cells: _QualifiedCells, quarter: Ints) -> Listening:
    """The quarter-hours in which each person heard enough, neighbouring ones in one stretch."""
    begun = quarter[cells.cell]
    new = np.ones(len(begun), dtype=np.bool_)
    new[1:] = (cells.person[1:] != cells.person[:-1]) | (begun[1:] != begun[:-1] + 1)
    at = np.flatnonzero(new)
    return Listening.whole(
        started_ms=begun[at] * QUARTER_HOUR_MS,
        ended_ms=(begun[np.append(at[1:], len(begun)) - 1] + 1) * QUARTER_HOUR_MS if len(at) else at,
        listener=cells.person[at],
    )


def _laid_out(first: Ints, stop: Ints) -> Ints:
    """The different numbers in all ``[first, stop)``, ascending."""
    order = np.argsort(first, kind="stable")
    first, stop = first[order], stop[order]
    begin = first.copy()
    begin[1:] = np.maximum(first[1:], np.maximum.accumulate(stop)[:-1])
    return ranges(begin, np.maximum(stop - begin, 0))


def _clipped_quarters(start_ms: int, end_ms: int) -> tuple[Ints, Ints]:
    """The quarter-hours that the period touches, as far as they lie inside."""
    starts = np.arange(start_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS, max(start_ms, end_ms), QUARTER_HOUR_MS)
    starts = starts if end_ms > start_ms else starts[:0]
    return np.maximum(starts, start_ms), np.minimum(starts + QUARTER_HOUR_MS, end_ms)


def _cut_quarters(starts: Ints, ends: Ints) -> tuple[Ints, Ints, Ints]:
    """What periods hold of the quarter-hours that they cut: the number of the period, start and end of the piece."""
    head_ends = np.minimum(-(-starts // QUARTER_HOUR_MS) * QUARTER_HOUR_MS, ends)
    tail_starts = np.maximum(ends // QUARTER_HOUR_MS * QUARTER_HOUR_MS, head_ends)
    has_head, has_tail = np.flatnonzero(head_ends > starts), np.flatnonzero(ends > np.maximum(tail_starts, starts))
    return (
        np.concatenate((has_head, has_tail)),
        np.concatenate((starts[has_head], tail_starts[has_tail])),
        np.concatenate((head_ends[has_head], ends[has_tail])),
    )


def _has_quarter(listening: Listening, asked: Bools, enough_ms: int) -> Bools:
    """Which of the sessions that are ``asked`` heard so much within one clock quarter-hour.

    A part of twice as much lies by half in one: only the others are cut up.
    """
    parts = listening.parts
    found = np.zeros(len(listening), dtype=np.bool_)
    is_long = parts.ended_ms - parts.started_ms >= 2 * min(enough_ms, QUARTER_HOUR_MS)
    if enough_ms <= QUARTER_HOUR_MS:
        found[parts.session[is_long]] = True
    rows = np.flatnonzero((asked & ~found)[parts.session])
    rows = rows[np.lexsort((parts.started_ms[rows], parts.session[rows]))]
    session, starts, ends = parts.session[rows], parts.started_ms[rows], parts.ended_ms[rows]
    first = starts // QUARTER_HOUR_MS
    counts = (ends - 1) // QUARTER_HOUR_MS - first + 1
    owner, quarter = np.repeat(session, counts), ranges(first, counts)
    length = np.minimum(np.repeat(ends, counts), (quarter + 1) * QUARTER_HOUR_MS)
    length -= np.maximum(np.repeat(starts, counts), quarter * QUARTER_HOUR_MS)
    at = np.flatnonzero(_changes(owner, quarter))
    if len(at):
        found[owner[at[np.add.reduceat(length, at) >= enough_ms]]] = True
    return found


# Pieces of listening -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pieces:
    """What some persons heard of slots, by person, then start; ``is_first`` of each person's pieces of a slot."""

    person: Ints
    slot: Ints
    started_ms: Ints
    ended_ms: Ints
    is_first: Bools


def _pieces(listening: Listening, starts: Ints, ends: Ints) -> Iterator[_Pieces]:
    """What each person heard (the union) of disjoint, ascending slots; some persons at a time, each whole."""
    heard = listening.heard
    first = np.searchsorted(ends, heard.started_ms, side="right")
    counts = np.maximum(np.searchsorted(starts, heard.ended_ms, side="left") - first, 0)
    of_person = np.bincount(heard.person, minlength=1)
    bounds = np.concatenate(([0], np.cumsum(of_person)))
    for some in chunks(totals(counts, of_person), _CHUNK_ROWS):
        rows = slice(int(bounds[some.start]), int(bounds[some.stop]))
        slot = ranges(first[rows], counts[rows])
        if not len(slot):
            continue
        person = np.repeat(heard.person[rows], counts[rows])
        yield _Pieces(
            person=person,
            slot=slot,
            started_ms=np.maximum(np.repeat(heard.started_ms[rows], counts[rows]), starts[slot]),
            ended_ms=np.minimum(np.repeat(heard.ended_ms[rows], counts[rows]), ends[slot]),
            is_first=_changes(person, slot),
        )


def _summed(key: Ints, length: Ints) -> tuple[Ints, Ints]:
    """The different keys, ascending, and the sum of the lengths of each."""
    if (key[1:] < key[:-1]).any():
        order = order_of(key)
        key, length = key[order], length[order]
    at = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1]))) if len(key) else key
    return key[at], np.add.reduceat(length, at) if len(at) else length


def _changes(one: Ints, other: Ints) -> Bools:
    """Where a row differs from the one before, in either column."""
    new = np.ones(len(one), dtype=np.bool_)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    return new


def _layers(starts: Ints, ends: Ints) -> list[Ints]:
    """The slots that last, in layers of disjoint, ascending ones: one layer where nothing overlaps."""
    order = np.lexsort((ends, starts))
    order = order[ends[order] > starts[order]]
    if (ends[order[:-1]] <= starts[order[1:]]).all():
        return [order] if len(order) else []
    busy_until: list[int] = []
    layers: list[list[int]] = []
    for slot, start, end in zip(order.tolist(), starts[order].tolist(), ends[order].tolist(), strict=True):
        free = next((number for number, until in enumerate(busy_until) if until <= start), len(layers))
        if free == len(layers):
            layers.append([])
            busy_until.append(end)
        layers[free].append(slot)
        busy_until[free] = end
    return [np.array(layer, dtype=np.int64) for layer in layers]


# Amounts -----------------------------------------------------------------------------------------


def _amount_until(listening: Listening, amounts: Ints, instants: Ints) -> Ints:
    """Of all sessions, what of their amounts falls before each of the ascending instants."""
    stretches = _stretches(listening)
    # Whole amounts of the sessions that are over, from the first instant by which they are.
    over = np.zeros(len(instants) + 1, dtype=np.int64)
    is_last = stretches.is_last
    np.add.at(over, np.searchsorted(instants, stretches.until_ms[is_last]), amounts[stretches.session[is_last]])
    until = np.cumsum(over[:-1])
    first = np.searchsorted(instants, stretches.started_ms, side="left")
    counts = np.maximum(np.searchsorted(instants, stretches.until_ms, side="left") - first, 0)
    for some in chunks(counts, _CHUNK_ROWS):
        at = ranges(first[some], counts[some])
        row = np.repeat(np.arange(some.start, some.stop), counts[some])
        heard = np.minimum(instants[at], stretches.ended_ms[row]) - stretches.started_ms[row]
        session = stretches.session[row]
        share = _share(amounts[session], stretches.before_ms[row] + heard, stretches.played_ms[row])
        np.add.at(until, at, share)
    return until


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stretches:
    """Parts, and from each until the next one of its session, or its end; what was heard before it, and in all."""

    session: Ints
    started_ms: Ints
    ended_ms: Ints
    until_ms: Ints
    is_last: Bools
    before_ms: Ints
    played_ms: Ints


def _stretches(listening: Listening) -> _Stretches:
    parts = listening.parts
    session, starts, ends = parts.session, parts.started_ms, parts.ended_ms
    if not parts.is_whole:
        order = np.lexsort((starts, session))
        session, starts, ends = session[order], starts[order], ends[order]
    length = ends - starts
    is_first = np.ones(len(session), dtype=np.bool_)
    is_first[1:] = session[1:] != session[:-1]
    is_last = np.append(is_first[1:], True) if len(session) else is_first
    until = ends.copy()
    until[:-1][~is_last[:-1]] = starts[1:][~is_last[:-1]]
    first = np.flatnonzero(is_first)
    counts = np.diff(first, append=len(session))
    before = np.cumsum(length) - length
    return _Stretches(
        session=session,
        started_ms=starts,
        ended_ms=ends,
        until_ms=until,
        is_last=is_last,
        before_ms=before - np.repeat(before[first], counts),
        played_ms=np.repeat(totals(length, counts), counts),
    )


def _share(amounts: Ints, heard: Ints, played: Ints) -> Ints:
    """``amounts * heard // played``, without leaving 64 bits where a session lasts for months."""
    whole, rest = np.divmod(amounts, played)
    bits = np.frexp(played.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(2 * bits - _PRODUCT_BITS, 0)
    return whole * heard + rest * (heard >> shift) // (played >> shift)


def _ratio(amount: Ints | Floats, by: Ints) -> Floats:
    """The quotients; 0.0 where there is nothing to divide by."""
    amount, by = np.broadcast_arrays(np.asarray(amount, dtype=np.float64), by)
    return np.divide(amount, by, out=np.zeros(amount.shape), where=by > 0)
