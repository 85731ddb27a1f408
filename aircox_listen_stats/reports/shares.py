"""Listening by country, app and referrer: of a station or stream from its days, of anything else from its sessions.

Sessions are deleted one day, and days may be older than this table: what is not known then is None, and not zero.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from django.db.models import QuerySet

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..kernel.arrays import Ints
from ..kernel.shares import Share, capped, label_sums
from ..kernel.types import RuleSet
from ..models import Airing, Audience, DayShare, QuarterHour, Session, Stream
from . import rows
from .amounts import StandsOn
from .blurs import Reason, Sense, affecting, sense_of
from .figures import KNOWN_COVERAGE, change, falls_short, hours, is_hidden, share
from .heard import HeardBy, covered, heard_by, heard_by_on_air, sessions_known_from_ms
from .periods import Scope, ScopeKind, airings_of
from .spans import Span

__all__ = ["MOST_LINES", "ShareKind", "ShareLine", "ShareTable", "share_tables", "shares"]

MOST_LINES = 20
"""Values that a table shows; what is left is one more line."""

MOST_SESSIONS = 50_000
"""Sessions that are read for one table, as :data:`.by_airings.MOST_SESSIONS`."""

PARTS_OF_COVERAGE = 10_000
"""Coverage is kept to four decimals: a share is read as so many parts."""

ALWAYS = frozenset({DayShare.UNKNOWN, DayShare.NONE})
"""What is no value has a line of its own."""


class ShareKind(StrEnum):
    """What the listening is divided by."""

    COUNTRY = "country"
    APP = "app"
    REFERRER = "referrer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLine:
    """One value: its listening in the period, what part of all that is, and the same of the other periods.

    ``value`` is a country's code, an app's name or a host; of DayShare: UNKNOWN, NONE and OTHER. A change of 0.1 is ten
    per cent; None where the other period is not known, knew nothing of the value, or cannot be held against.
    ``sessions`` is None where a smallest cell hides it.
    """

    value: str
    listening_hours: float
    sessions: int | None
    share: float | None
    share_before: float | None
    share_year_before: float | None
    change: float | None
    change_on_year: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTable:
    """The listening of a scope in a span by one kind, most first; ``lines`` is None where it is not known.

    The lines add up to ``listening_hours``, and ``sessions`` to those active in the span. ``is_partial``: the days were
    not kept apart by kind in all of the span. ``at_least_because``: why listeners could not be told apart in some of
    it, where its reader has looked; so of the other periods. Of a running period, changes are those of the days that
    are over.
    """

    kind: ShareKind
    scope: Scope
    span: Span
    rule_set: str
    before: Span
    year_before: Span | None
    lines: tuple[ShareLine, ...] | None
    listening_hours: float | None
    sessions: int | None
    coverage: float | None
    settled: bool
    stands_on: StandsOn
    is_partial: bool = False
    at_least_because: tuple[Reason, ...] = ()
    before_at_least_because: tuple[Reason, ...] = ()
    year_before_at_least_because: tuple[Reason, ...] = ()

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed."""
        return falls_short(self.coverage)

    @property
    def hours_because(self) -> tuple[Reason, ...]:
        """Why its listening hours are lower bounds, though they were observed."""
        return affecting(self.at_least_because, "listening_hours")

    @property
    def change_is(self) -> Sense:
        """What the changes of its lines on the period before say."""
        told = next((one.change for one in self.lines or () if one.change is not None), None)
        return sense_of(told, "listening_hours", self.at_least_because, self.before_at_least_because)

    @property
    def change_on_year_is(self) -> Sense:
        """Likewise, of those on last year."""
        told = next((one.change_on_year for one in self.lines or () if one.change_on_year is not None), None)
        return sense_of(told, "listening_hours", self.at_least_because, self.year_before_at_least_because)

    @property
    def tells(self) -> bool:
        """Whether there is anything but "unknown" in it."""
        return any(one.value != DayShare.UNKNOWN for one in self.lines or ())

    @property
    def knows_year_before(self) -> bool:
        """Whether anything is known of the same period last year."""
        return any(one.share_year_before is not None for one in self.lines or ())

    def hiding_below(self, minimum: int) -> ShareTable:
        """The same without counts from 1 to ``minimum - 1``."""
        if self.lines is None or minimum <= 1:
            return self
        return replace(
            self,
            lines=tuple(replace(one, sessions=None) if is_hidden(one.sessions, minimum) else one for one in self.lines),
            sessions=None if is_hidden(self.sessions, minimum) else self.sessions,
        )


def shares(scope: Scope, span: Span, rules: RuleSet, kind: ShareKind, *, now: dt.datetime) -> ShareTable:
    """The table of one kind."""
    [table] = share_tables(scope, span, rules, now=now, kinds=(kind,))
    return table


def share_tables(
    scope: Scope, span: Span, rules: RuleSet, *, now: dt.datetime, kinds: Sequence[ShareKind] = tuple(ShareKind)
) -> tuple[ShareTable, ...]:
    """A table of each kind, in a number of queries that no amount of listening changes."""
    reader = _Reader(scope, rules, kinds, to_ms(now))
    before, year_before = span.before(), span.year_before()
    made = reader.read(span, reader.now_ms)
    held, others_until_ms = made, reader.now_ms
    if reader.now_ms < span.ended_ms and reader.is_of_days(span):
        others_until_ms = reader.today_ms  # the running day is not yet what it will be
        held = reader.read(span, others_until_ms)
    compared = {
        name: reader.read(one, one.as_far_as(span, min(others_until_ms, span.ended_ms))) if one else _NOTHING
        for name, one in (("before", before), ("year_before", year_before))
    }
    return tuple(
        ShareTable(
            kind=kind,
            scope=scope,
            span=span,
            rule_set=rules.name,
            before=before,
            year_before=year_before,
            lines=_lines(kind, made, held, compared["before"], compared["year_before"]),
            listening_hours=hours(sum(one.listening_ms for one in found.values())) if found is not None else None,
            sessions=sum(one.inherited + one.begun for one in found.values()) if found is not None else None,
            coverage=made.coverage,
            settled=made.settled and span.ended_ms <= reader.now_ms,
            stands_on=made.stands_on,
            is_partial=made.is_partial,
        )
        for kind in kinds
        for found in (made.of(kind),)
    )


# Lines -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is known of one span: by kind and value. ``values`` is None where nothing is."""

    values: Mapping[str, Mapping[str, Share]] | None = None
    coverage: float | None = None
    settled: bool = False
    stands_on: StandsOn = StandsOn.NOTHING
    is_partial: bool = False  # not all of the days were kept apart by kind

    def of(self, kind: ShareKind) -> Mapping[str, Share] | None:
        return None if self.values is None else self.values.get(kind, {})

    def listening_ms(self, kind: ShareKind, value: str) -> int | None:
        """None where it is not known: also of what may be among the rest."""
        found = self.of(kind)
        if found is None or self.is_partial or value == DayShare.OTHER:
            return None
        if value in found:
            return found[value].listening_ms
        return None if DayShare.OTHER in found else 0

    def part(self, kind: ShareKind, value: str) -> float | None:
        listening_ms = self.listening_ms(kind, value)
        if listening_ms is None:
            return None
        return share(listening_ms, sum(one.listening_ms for one in (self.of(kind) or {}).values()))


_NOTHING = _Found()


def _lines(kind: ShareKind, made: _Found, held: _Found, before: _Found, year: _Found) -> tuple[ShareLine, ...] | None:
    found = made.of(kind)
    if found is None:
        return None
    whole_ms = sum(one.listening_ms for one in found.values())
    return tuple(
        ShareLine(
            value=one.value,
            listening_hours=hours(one.listening_ms) or 0.0,
            sessions=one.inherited + one.begun,
            share=share(one.listening_ms, whole_ms),
            share_before=before.part(kind, one.value),
            share_year_before=year.part(kind, one.value),
            change=_change(held, before, kind, one.value),
            change_on_year=_change(held, year, kind, one.value),
        )
        for one in _shown(found)
    )


def _shown(found: Mapping[str, Share]) -> list[Share]:
    """The MOST_LINES that were heard longest, what is no value, and one line for the rest, which stands last."""
    kept = {one.value: one for one in capped([*found.values()], MOST_LINES, always=ALWAYS)}
    rest = kept.pop(DayShare.OTHER, None)
    return [*kept.values(), *([rest] if rest else [])]


def _change(held: _Found, other: _Found, kind: ShareKind, value: str) -> float | None:
    if min(held.coverage or 0.0, other.coverage or 0.0) < KNOWN_COVERAGE:
        return None
    return change(held.listening_ms(kind, value), other.listening_ms(kind, value))


# Reading -----------------------------------------------------------------------------------------


class _Reader:
    """What is known of one scope under one rule-set, of whatever span."""

    def __init__(self, scope: Scope, rules: RuleSet, kinds: Sequence[ShareKind], now_ms: int) -> None:
        self.scope = scope
        self.rules = rules
        self.kinds = kinds
        self.now_ms = now_ms
        settings = conf.get()
        self._day_of = lambda at_ms: calendar.broadcast_day_start(at_ms, settings.zone, settings.broadcast_day_start)
        self.today_ms = self._day_of(now_ms)
        self._can_read = rules.gap_seconds == settings.rules().gap_seconds
        self._streams = list(Stream.objects.of(scope.station_id).order_by("pk"))
        self._stream_id = DayShare.STATION
        if scope.kind is ScopeKind.STREAM:
            self._stream_id = scope.id
            self._streams = [one for one in self._streams if one.pk == scope.id]
        self._kept_from_ms = self._first_day()
        self._known_from_ms = sessions_known_from_ms(now_ms)

    def is_of_days(self, span: Span) -> bool:
        """Whether the span is made of the days that are kept."""
        if self.scope.kind not in (ScopeKind.STATION, ScopeKind.STREAM) or span.daypart is not None:
            return False
        return all(self._day_of(at_ms) == at_ms for at_ms in (span.started_ms, span.ended_ms))

    def read(self, span: Span, until_ms: int) -> _Found:
        """What is known of the span up to ``until_ms``."""
        starts, ends = span.slots(min(until_ms, self.now_ms))
        if not len(starts) or not self._streams:
            return _NOTHING
        if self.scope.kind not in (ScopeKind.STATION, ScopeKind.STREAM):
            return self._of_airings(span, min(until_ms, self.now_ms))
        covered_ms = covered(self._streams, starts, ends) * (ends - starts)
        coverage = share(float(covered_ms.sum()), int((ends - starts).sum()))
        found = self._of_days(span, starts, ends) if self.is_of_days(span) else self._of_stretches(starts, ends)
        if not coverage and not any((found.values or {}).values()):
            return _NOTHING  # nobody was observed: that nobody was heard says nothing
        return replace(found, coverage=coverage)

    # Days -----------------------------------------------------------------------------

    def _of_days(self, span: Span, starts: Ints, ends: Ints) -> _Found:
        begin_ms, end_ms = int(starts[0]), int(ends[-1])
        is_partial = begin_ms < self._kept_from_ms and self._was_heard(begin_ms, min(end_ms, self._kept_from_ms))
        values: dict[str, dict[str, Share]] = {kind: {} for kind in self.kinds}
        settled = True
        for kind, value, listening_ms, inherited, begun, provisional in rows.fetch(
            "SELECT kind, value, CAST(SUM(listening_ms) AS BIGINT),"
            " CAST(SUM(CASE WHEN started = %s THEN inherited ELSE 0 END) AS BIGINT), CAST(SUM(begun) AS BIGINT),"
            f" MAX(CASE WHEN settled THEN 0 ELSE 1 END) FROM {rows.table(DayShare)}"
            f" WHERE station_id = %s AND stream_id = %s AND kind IN ({', '.join(['%s'] * len(self.kinds))})"
            " AND rule_set = %s AND started >= %s AND started < %s GROUP BY kind, value",
            [begin_ms, self.scope.station_id, self._stream_id, *self.kinds, self.rules.name, begin_ms, end_ms],
        ):
            values[kind][value] = Share(value=value, listening_ms=listening_ms, inherited=inherited, begun=begun)
            settled = settled and not provisional
        if is_partial and not any(values.values()):
            return _NOTHING
        return _Found(values=values, settled=settled, stands_on=StandsOn.ROLL_UP, is_partial=is_partial)

    def _first_day(self) -> int:
        """The first day that is kept apart by kind; now where none is."""
        [(first_ms,)] = rows.fetch(
            f"SELECT MIN(started) FROM {rows.table(DayShare)}"
            " WHERE station_id = %s AND stream_id = %s AND kind = %s AND rule_set = %s",
            [self.scope.station_id, self._stream_id, ShareKind.COUNTRY.value, self.rules.name],
        )
        return self.now_ms if first_ms is None else int(first_ms)

    def _was_heard(self, begin_ms: int, end_ms: int) -> bool:
        return self._quarters(begin_ms, end_ms).filter(listening_ms__gt=0).exists()

    def _quarters(self, begin_ms: int, end_ms: int) -> QuerySet[QuarterHour]:
        """The quarter-hours that begin in the window."""
        return QuarterHour.objects.filter(
            station_id=self.scope.station_id,
            stream_id=self._stream_id,
            rule_set=self.rules.name,
            started__gte=from_ms(begin_ms),
            started__lt=from_ms(end_ms),
        )

    # Sessions -------------------------------------------------------------------------

    def _of_stretches(self, starts: Ints, ends: Ints) -> _Found:
        """Of what no whole days are: the sessions, where they are still kept and not too many."""
        begin_ms, end_ms = int(starts[0]), int(ends[-1])
        if not self._can_read or begin_ms < self._known_from_ms:
            return _NOTHING
        met = Session.objects.filter(stream__in=self._streams, started__lt=from_ms(end_ms), ended__gt=from_ms(begin_ms))
        if met[: MOST_SESSIONS + 1].count() > MOST_SESSIONS:
            return _NOTHING
        found = self._summed(heard_by(self._streams, begin_ms, end_ms), starts, ends)
        provisional = self._quarters(begin_ms, end_ms).filter(settled=False).exists()
        return replace(found, settled=not provisional)

    def _of_airings(self, span: Span, until_ms: int) -> _Found:
        """Of a program and what it is made of: the sessions of its airings, where they are all still kept."""
        where, values = airings_of(self.scope).where(span, until_ms)
        on_air = np.array(
            rows.fetch(
                "SELECT a.started, CASE WHEN a.ended < %s THEN a.ended ELSE %s END, COALESCE(f.sessions, 0),"
                " CAST(ROUND(COALESCE(f.coverage, 0) * %s) AS BIGINT), CASE WHEN f.settled THEN 1 ELSE 0 END"
                f" FROM {rows.table(Airing)} a"
                f" LEFT JOIN {rows.table(Audience)} f ON f.airing_id = a.id AND f.rule_set = %s"
                f" WHERE {where} ORDER BY a.started, a.id",
                [until_ms, until_ms, PARTS_OF_COVERAGE, self.rules.name, *values],
            ),
            dtype=np.int64,
        ).reshape(-1, 5)
        starts, ends, sessions, coverages, settled = on_air.T
        if not len(starts) or span.daypart is not None:
            return _NOTHING
        coverage = share(float(((ends - starts) * coverages).sum()) / PARTS_OF_COVERAGE, int((ends - starts).sum()))
        if not self._can_read or int(starts[0]) < self._known_from_ms:
            return replace(_NOTHING, coverage=coverage)
        if int(sessions.sum()) > MOST_SESSIONS or not coverage:
            return replace(_NOTHING, coverage=coverage)
        found = self._summed(heard_by_on_air(self._streams, where, values), *_run_together(starts, ends))
        return replace(found, coverage=coverage, settled=bool(settled.all()))

    def _summed(self, by: HeardBy, starts: Ints, ends: Ints) -> _Found:
        mask = by.heard.counting(self.rules)
        listening, label = by.heard.listening.only(mask), by.label[mask]
        heard, met = label_sums(listening, label, len(by.labels), starts, ends)
        values: dict[str, dict[str, Share]] = {kind: {} for kind in self.kinds}
        for one, listening_ms, sessions in zip(by.labels, heard.tolist(), met.tolist(), strict=True):
            for kind, shares in values.items() if listening_ms else ():
                value = getattr(one, kind)
                before = shares.get(value, Share(value=value, listening_ms=0, inherited=0, begun=0))
                shares[value] = replace(
                    before, listening_ms=before.listening_ms + listening_ms, begun=before.begun + sessions
                )
        return _Found(values=values, stands_on=StandsOn.SESSIONS)


def _run_together(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The stretches, by start, with those that overlap as one; empty ones are left out."""
    lasts = ends > starts
    starts, ends = starts[lasts], ends[lasts]
    reached = np.maximum.accumulate(ends)
    first = np.flatnonzero(np.concatenate(([True], starts[1:] >= reached[:-1]))) if len(starts) else np.arange(0)
    return starts[first], reached[np.append(first[1:], len(starts)) - 1] if len(starts) else ends
