"""What a report is about: a day, week, month or year, other days, or any two instants; of it all or one daypart."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..kernel.arrays import Ints
from ..kernel.calendar import DAYPARTS
from .query import DAYS_A_WEEK, LONGEST_DAYS, Period, broadcast_day

__all__ = ["DAYPART_NAMES", "EXAMPLES", "NAMED", "Kind", "Span", "between", "daypart", "of_days", "of_period", "read"]

ONE_DAY = dt.timedelta(days=1)
YEAR_OF_WEEKS = dt.timedelta(days=52 * DAYS_A_WEEK)
"""The same weekdays of the year before: ISO week 41 is held against week 41, but after a year of 53 weeks."""

HOURS_A_DAY = 24


DAYPART_NAMES = tuple(
    f"{begin:02d}-{end:02d}" for begin, end in zip(DAYPARTS, (*DAYPARTS[1:], HOURS_A_DAY), strict=True)
)
"""The dayparts as they are written in an address or on a command line: ``06-10``."""


class Kind(StrEnum):
    """What sort of period it is, by its bounds: whoever asks for 1 to 31 October asks for the month."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    DAYS = "days"
    INSTANTS = "instants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """``[started_ms, ended_ms)``: broadcast days ``first`` to ``last`` of a zone, or any instants (both None).

    With ``daypart``, of these the hours of that one alone (see DAYPARTS).
    """

    kind: Kind
    started_ms: int
    ended_ms: int
    zone: str
    day_starts: dt.time
    first: dt.date | None = None
    last: dt.date | None = None
    daypart: int | None = None

    @property
    def started(self) -> dt.datetime:
        """In the span's zone."""
        return from_ms(self.started_ms).astimezone(self.zone_info)

    @property
    def ended(self) -> dt.datetime:
        """In the span's zone."""
        return from_ms(self.ended_ms).astimezone(self.zone_info)

    @property
    def zone_info(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.zone)

    @property
    def name(self) -> str:
        """For a file or a heading: ``2026-10``, ``2026-W41``, ``2026-11-01_2026-11-15``, with the daypart behind it."""
        return self._days_name() + ("" if self.daypart is None else f"_{self.daypart_hours}")

    @property
    def daypart_hours(self) -> str:
        """``06-10``; empty for the whole day."""
        return "" if self.daypart is None else DAYPART_NAMES[self.daypart]

    def slots(self, until_ms: int) -> tuple[Ints, Ints]:
        """Starts and ends of what is reported on, up to ``until_ms``: one stretch, or the daypart of each day."""
        ended_ms = min(self.ended_ms, until_ms)
        if ended_ms <= self.started_ms:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        if self.daypart is None:
            return np.array([self.started_ms]), np.array([ended_ms])
        slots, parts = calendar.dayparts(self.zone_info, self.started_ms, ended_ms)
        mine = parts == self.daypart
        starts, ends = slots.starts_ms[mine], slots.ends_ms[mine]
        return np.maximum(starts, self.started_ms), np.minimum(ends, ended_ms)

    def days(self, until_ms: int) -> tuple[Ints, Ints]:
        """Starts and ends of its broadcast days, up to ``until_ms``; the first and last cut as the span is."""
        ended_ms = min(self.ended_ms, until_ms)
        slots = calendar.broadcast_days(self.zone_info, self.started_ms, ended_ms, starts=self.day_starts)
        return np.maximum(slots.starts_ms, self.started_ms), np.minimum(slots.ends_ms, ended_ms)

    def before(self) -> Span:
        """The one before it: yesterday, last week, last month, last year; as many days, or as long."""
        if self.first is None or self.last is None:
            length_ms = self.ended_ms - self.started_ms
            return replace(self, started_ms=self.started_ms - length_ms, ended_ms=self.started_ms)
        last = self.first - ONE_DAY
        if self.kind is Kind.MONTH:
            return self._on(last.replace(day=1), last)
        if self.kind is Kind.YEAR:
            return self._on(last.replace(month=1, day=1), last)
        return self._on(self.first - (self.last - self.first + ONE_DAY), last)

    def year_before(self) -> Span | None:
        """The same one last year: the same month, or the same weekdays 52 weeks before.

        None of what is nearly a year itself: that is :meth:`before`, or would overlap.
        """
        if self.first is None or self.last is None:
            started, ended = (at - YEAR_OF_WEEKS for at in (self.started, self.ended))
            if self.ended - self.started >= YEAR_OF_WEEKS:
                return None
            return replace(self, started_ms=to_ms(started), ended_ms=to_ms(ended))
        if self.kind is Kind.MONTH:
            return self._month(self.first.year - 1, self.first.month)
        if self.last - self.first + ONE_DAY >= YEAR_OF_WEEKS:
            return None
        return self._on(self.first - YEAR_OF_WEEKS, self.last - YEAR_OF_WEEKS)

    def as_far_as(self, other: Span, until_ms: int) -> int:
        """How far this one had come, by the clock on the wall, when ``other`` had come to ``until_ms``."""
        if until_ms >= other.ended_ms:
            return self.ended_ms
        gone = _wall(from_ms(until_ms).astimezone(other.zone_info)) - _wall(other.started)
        then = (_wall(self.started) + gone).replace(tzinfo=self.zone_info)
        return min(max(to_ms(then), self.started_ms), self.ended_ms)

    def within(self, daypart: int | None) -> Span:
        """The same days, of them that daypart alone."""
        return replace(self, daypart=daypart)

    def _days_name(self) -> str:
        if self.first is None or self.last is None:
            return f"{self.started:%Y-%m-%dT%H%M}_{self.ended:%Y-%m-%dT%H%M}"
        match self.kind:
            case Kind.WEEK:
                return f"{self.first:%G-W%V}"
            case Kind.MONTH:
                return f"{self.first:%Y-%m}"
            case Kind.YEAR:
                return f"{self.first:%Y}"
            case Kind.DAY:
                return f"{self.first}"
        return f"{self.first}_{self.last}"

    def _on(self, first: dt.date, last: dt.date) -> Span:
        return _span(first, last, self.zone_info, self.day_starts, self.daypart)

    def _month(self, year: int, month: int) -> Span:
        first = dt.date(year, month, 1)
        return self._on(first, _month_end(first))


def of_days(first: dt.date, last: dt.date, settings: conf.Settings, *, day_starts: dt.time | None = None) -> Span:
    """The broadcast days ``first`` to ``last``, both included. Calendar days with ``day_starts`` of midnight."""
    return _span(first, last, settings.zone, settings.broadcast_day_start if day_starts is None else day_starts, None)


def of_period(period: Period) -> Span:
    """The days of a page's period."""
    return _span(period.first, period.last, zoneinfo.ZoneInfo(period.zone), period.day_starts, None)


def between(started: dt.datetime, ended: dt.datetime, settings: conf.Settings) -> Span:
    """Any two instants. Refuses naive ones."""
    return Span(
        kind=Kind.INSTANTS,
        started_ms=to_ms(started),
        ended_ms=to_ms(ended),
        zone=settings.zone.key,
        day_starts=settings.broadcast_day_start,
    )


# Names -------------------------------------------------------------------------------------------

_Days = tuple[dt.date, dt.date]

NAMED: Mapping[str, Callable[[dt.date], _Days]] = {
    "today": lambda today: (today, today),
    "yesterday": lambda today: (today - ONE_DAY, today - ONE_DAY),
    "this-week": lambda today: _week(today),
    "last-week": lambda today: _week(today - dt.timedelta(days=DAYS_A_WEEK)),
    "this-month": lambda today: _month(today),
    "last-month": lambda today: _month(today.replace(day=1) - ONE_DAY),
    "this-year": lambda today: _year(today),
    "last-year": lambda today: _year(today.replace(month=1, day=1) - ONE_DAY),
}
"""The days of each name on the broadcast day that runs."""

_WEEK = re.compile(r"(\d{4})-W(\d{2})")
_MONTH = re.compile(r"(\d{4})-(\d{2})")
_YEAR = re.compile(r"\d{4}")

EXAMPLES = "2026, 2026-10, 2026-W41, 2026-11-22, or two days, the first and the last"


def read(words: Sequence[str], settings: conf.Settings, *, now: dt.datetime) -> Span:
    """The span that one word names, or two days tell. Raises ValueError with what is allowed."""
    try:
        first, last = _days_of(words, broadcast_day(now, settings))
    except (ValueError, OverflowError):
        raise ValueError(f"{' '.join(words)!r} is no period. Allowed: {', '.join(NAMED)}, {EXAMPLES}.") from None
    if last < first:
        raise ValueError(f"The last day, {last}, is before the first, {first}.")
    if (last - first).days >= LONGEST_DAYS:
        raise ValueError(f"{first} to {last} is longer than the {LONGEST_DAYS} days that a report may span.")
    return of_days(first, last, settings)


def daypart(name: str) -> int:
    """Which of DAYPARTS ``06-10`` is. Raises ValueError with what is allowed."""
    if name not in DAYPART_NAMES:
        raise ValueError(f"{name!r} is no daypart. Allowed: {', '.join(DAYPART_NAMES)}.")
    return DAYPART_NAMES.index(name)


def _days_of(words: Sequence[str], today: dt.date) -> _Days:
    if len(words) > 1:
        first, last = words
        return dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    [word] = words
    if word in NAMED:
        return NAMED[word](today)
    if found := _WEEK.fullmatch(word):
        return _week(dt.date.fromisocalendar(int(found[1]), int(found[2]), 1))
    if found := _MONTH.fullmatch(word):
        return _month(dt.date(int(found[1]), int(found[2]), 1))
    if _YEAR.fullmatch(word):
        return _year(dt.date(int(word), 1, 1))
    day = dt.date.fromisoformat(word)
    return day, day


def _span(first: dt.date, last: dt.date, zone: zoneinfo.ZoneInfo, day_starts: dt.time, daypart: int | None) -> Span:
    return Span(
        kind=_kind(first, last),
        started_ms=calendar.day_start(first, zone, day_starts),
        ended_ms=calendar.day_start(last + ONE_DAY, zone, day_starts),
        zone=zone.key,
        day_starts=day_starts,
        first=first,
        last=last,
        daypart=daypart,
    )


def _kind(first: dt.date, last: dt.date) -> Kind:
    if first == last:
        return Kind.DAY
    for kind, days_of in ((Kind.WEEK, _week), (Kind.MONTH, _month), (Kind.YEAR, _year)):
        if (first, last) == days_of(first):
            return kind
    return Kind.DAYS


def _week(day: dt.date) -> _Days:
    monday = day - dt.timedelta(days=day.weekday())
    return monday, monday + dt.timedelta(days=DAYS_A_WEEK - 1)


def _month(day: dt.date) -> _Days:
    first = day.replace(day=1)
    return first, _month_end(first)


def _month_end(first: dt.date) -> dt.date:
    return (first + dt.timedelta(days=31)).replace(day=1) - ONE_DAY


def _year(day: dt.date) -> _Days:
    return day.replace(month=1, day=1), day.replace(month=12, day=31)


def _wall(at: dt.datetime) -> dt.datetime:
    """What the clock on the wall shows."""
    return at.replace(tzinfo=None)
