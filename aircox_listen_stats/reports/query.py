"""What a report is asked for: a period, a rule-set, a station."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from dataclasses import dataclass

from .. import conf
from ..fields import to_ms
from ..kernel.types import RuleSet

WEEK_CHOICES = (4, 13, 52)
"""Weeks that a page offers with one touch: a month, a quarter, a year."""

DEFAULT_WEEKS = 13

DAYS_A_WEEK = 7

LONGEST_DAYS = 5 * 366
"""Days that one report may span: five years hold every question asked so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Broadcast days from ``first`` to ``last``, both included, in one zone.

    A diffusion belongs to the broadcast day in which it started.
    """

    first: dt.date
    last: dt.date
    zone: str
    day_starts: dt.time

    @property
    def started(self) -> dt.datetime:
        """The instant at which the first broadcast day starts, in the period's zone."""
        return self._edge(self.first)

    @property
    def ended(self) -> dt.datetime:
        """The instant at which the last broadcast day is over, in the period's zone."""
        return self._edge(self.last + dt.timedelta(days=1))

    @property
    def started_ms(self) -> int:
        return to_ms(self.started)

    @property
    def ended_ms(self) -> int:
        return to_ms(self.ended)

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    def before(self) -> Period:
        """The period of as many days that ends where this one starts."""
        last = self.first - dt.timedelta(days=1)
        return Period(
            first=self.first - dt.timedelta(days=self.days), last=last, zone=self.zone, day_starts=self.day_starts
        )

    def _edge(self, day: dt.date) -> dt.datetime:
        # Wall clock time in a zone: a day with a change of clocks gets its 23 or 25 hours.
        return dt.datetime.combine(day, self.day_starts, tzinfo=zoneinfo.ZoneInfo(self.zone))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """One question to the reports. ``station_id`` None: every station."""

    period: Period
    rules: RuleSet
    station_id: int | None = None


def broadcast_day(now: dt.datetime, settings: conf.Settings) -> dt.date:
    """The date of the broadcast day in which ``now`` lies: 02:00 still belongs to the day before."""
    local = now.astimezone(settings.zone)
    day = local.date()
    return day if local.time() >= settings.broadcast_day_start else day - dt.timedelta(days=1)


def days(first: dt.date, last: dt.date, settings: conf.Settings) -> Period:
    """The period of the broadcast days ``first`` to ``last`` in the station's zone."""
    return Period(first=first, last=last, zone=settings.zone.key, day_starts=settings.broadcast_day_start)


def last_weeks(weeks: int, settings: conf.Settings, *, now: dt.datetime) -> Period:
    """The last ``weeks`` times seven broadcast days, the one that runs now included."""
    today = broadcast_day(now, settings)
    return days(today - dt.timedelta(days=weeks * DAYS_A_WEEK - 1), today, settings)
