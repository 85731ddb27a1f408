"""Quarter-hours, hours, dayparts, days, broadcast days, weeks, months and years of a station's zone, as instants.

Slots are half-open and tile time without gap or overlap, so that a day of the
change to summer time has 23 hours and one of the change back 25, with two
hours of the same name. Where a change does not fall on a full hour of the
clock (Lord Howe turns by 30 minutes), the slot that it cuts is shorter.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from .arrays import Ints

__all__ = [
    "DAYPARTS",
    "Slots",
    "broadcast_day_start",
    "broadcast_days",
    "day_start",
    "dayparts",
    "days",
    "hours",
    "months",
    "period_start",
    "quarter_hours",
    "weeks",
    "years",
]

QUARTER_HOUR_MS = 900_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

DAYPARTS = (0, 6, 10, 13, 16, 19)
"""The local hours at which a daypart begins; the last one ends at midnight. RAJAR."""

MIDNIGHT = dt.time(0)
ONE_DAY = dt.timedelta(days=1)

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MS = dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """Consecutive ``[starts_ms, ends_ms)``, ascending."""

    starts_ms: Ints
    ends_ms: Ints

    def __len__(self) -> int:
        return len(self.starts_ms)


def quarter_hours(zone: ZoneInfo, start_ms: int, end_ms: int) -> Slots:
    """The whole clock quarter-hours that ``[start_ms, end_ms)`` touches."""
    return _clock_slots(zone, start_ms, end_ms, QUARTER_HOUR_MS)


def hours(zone: ZoneInfo, start_ms: int, end_ms: int) -> Slots:
    """The whole clock hours that ``[start_ms, end_ms)`` touches; the repeated hour is two."""
    return _clock_slots(zone, start_ms, end_ms, HOUR_MS)


def days(zone: ZoneInfo, start_ms: int, end_ms: int) -> Slots:
    """The whole local days, midnight to midnight, that ``[start_ms, end_ms)`` touches."""
    return broadcast_days(zone, start_ms, end_ms, starts=MIDNIGHT)


def broadcast_days(zone: ZoneInfo, start_ms: int, end_ms: int, *, starts: dt.time) -> Slots:
    """The whole broadcast days, from ``starts`` to ``starts``, that ``[start_ms, end_ms)`` touches."""
    return _date_slots(zone, start_ms, end_ms, starts, lambda day: day)


def weeks(zone: ZoneInfo, start_ms: int, end_ms: int, *, starts: dt.time = MIDNIGHT) -> Slots:
    """The whole weeks, from Monday's ``starts``, that ``[start_ms, end_ms)`` touches."""
    return _date_slots(zone, start_ms, end_ms, starts, _monday)


def months(zone: ZoneInfo, start_ms: int, end_ms: int, *, starts: dt.time = MIDNIGHT) -> Slots:
    """The whole months, from ``starts`` on the first, that ``[start_ms, end_ms)`` touches."""
    return _date_slots(zone, start_ms, end_ms, starts, _first_of_month)


def years(zone: ZoneInfo, start_ms: int, end_ms: int, *, starts: dt.time = MIDNIGHT) -> Slots:
    """The whole years, from ``starts`` on 1 January, that ``[start_ms, end_ms)`` touches."""
    return _date_slots(zone, start_ms, end_ms, starts, _first_of_year)


def dayparts(zone: ZoneInfo, start_ms: int, end_ms: int) -> tuple[Slots, Ints]:
    """The whole dayparts that ``[start_ms, end_ms)`` touches, and which of DAYPARTS each is."""
    if end_ms <= start_ms:
        return _slots(np.empty(0, dtype=np.int64), start_ms, end_ms), np.empty(0, dtype=np.int64)
    day = _local(start_ms, zone).date() - ONE_DAY
    last = _local(end_ms, zone).date() + ONE_DAY
    bounds: dict[int, int] = {}
    while day <= last:
        for part, hour in enumerate(DAYPARTS):
            bounds[_first_instant(day, dt.time(hour), zone)] = part
        day += ONE_DAY
    slots = _slots(np.array(sorted(bounds), dtype=np.int64), start_ms, end_ms)
    return slots, np.array([bounds[start] for start in slots.starts_ms.tolist()], dtype=np.int64)


def day_start(day: dt.date, zone: ZoneInfo, starts: dt.time) -> int:
    """When the broadcast day of that date begins: at the first ``starts`` of it, or at the skip of it."""
    return _first_instant(day, starts, zone)


def broadcast_day_start(instant_ms: int, zone: ZoneInfo, starts: dt.time) -> int:
    """When the broadcast day of ``instant_ms`` began."""
    return _period_start(instant_ms, zone, starts, lambda day: day)


def period_start(instant_ms: int, rotation: str, zone: ZoneInfo, starts: dt.time) -> int:
    """When the ``rotation`` period (day, week, month) of ``instant_ms`` began: at a broadcast day's start.

    Weeks begin on Monday, months on the first. Raises ValueError for another rotation.
    """
    if rotation not in _FIRST_DAYS:
        raise ValueError(f"Unknown rotation {rotation!r}. Allowed: {', '.join(_FIRST_DAYS)}.")
    return _period_start(instant_ms, zone, starts, _FIRST_DAYS[rotation])


def _monday(day: dt.date) -> dt.date:
    return day - dt.timedelta(days=day.weekday())


def _first_of_month(day: dt.date) -> dt.date:
    return day.replace(day=1)


def _first_of_year(day: dt.date) -> dt.date:
    return day.replace(month=1, day=1)


_FIRST_DAYS: dict[str, Callable[[dt.date], dt.date]] = {
    "day": lambda day: day,
    "week": _monday,
    "month": _first_of_month,
}


def _instant(ms: int) -> dt.datetime:
    return _EPOCH + ms * _MS


def _local(ms: int, zone: ZoneInfo) -> dt.datetime:
    return _instant(ms).astimezone(zone)


def _ms(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // _MS


def _offset_ms(ms: int, zone: ZoneInfo) -> int:
    """Local clock less UTC."""
    offset = _local(ms, zone).utcoffset()
    assert offset is not None
    return offset // _MS


def _first_instant(day: dt.date, time: dt.time, zone: ZoneInfo) -> int:
    """The first instant at which the clock shows ``time`` of ``day``; where it is skipped, that of the skip."""
    wanted = dt.datetime.combine(day, time)
    instant = _ms(wanted.replace(tzinfo=zone, fold=0).astimezone(dt.UTC))
    if _local(instant, zone).replace(tzinfo=None) == wanted:
        return instant
    return _change_between(instant - DAY_MS, instant, zone)


def _change_between(low_ms: int, high_ms: int, zone: ZoneInfo) -> int:
    """The instant in ``(low_ms, high_ms]`` at which the offset becomes that of ``high_ms``."""
    after = _offset_ms(high_ms, zone)
    while high_ms - low_ms > 1:
        middle = (low_ms + high_ms) // 2
        if _offset_ms(middle, zone) == after:
            high_ms = middle
        else:
            low_ms = middle
    return high_ms


def _period_start(instant_ms: int, zone: ZoneInfo, starts: dt.time, first_day: Callable[[dt.date], dt.date]) -> int:
    # The next day's too: a clock turned back over midnight shows the old date after the new day began.
    today = _local(instant_ms, zone).date()
    for day in (today + ONE_DAY, today, today - ONE_DAY):
        start = _first_instant(first_day(day), starts, zone)
        if start <= instant_ms:
            return start
    raise AssertionError(f"No period of {zone.key} holds {instant_ms}.")  # a zone's dates never lag two days


def _date_slots(
    zone: ZoneInfo, start_ms: int, end_ms: int, starts: dt.time, first_day: Callable[[dt.date], dt.date]
) -> Slots:
    """The slots from one first day to the next."""
    bounds: list[int] = []
    if end_ms > start_ms:
        day = first_day(_local(start_ms, zone).date() - ONE_DAY)
        while not bounds or bounds[-1] < end_ms:
            bounds.append(_first_instant(day, starts, zone))
            day = _next_first_day(day, first_day)
    return _slots(np.unique(np.array(bounds, dtype=np.int64)), start_ms, end_ms)


def _next_first_day(day: dt.date, first_day: Callable[[dt.date], dt.date]) -> dt.date:
    """The first day of what follows the period that begins on ``day``."""
    following = day + ONE_DAY
    while first_day(following) == day:
        following += ONE_DAY
    return following


def _clock_slots(zone: ZoneInfo, start_ms: int, end_ms: int, length_ms: int) -> Slots:
    """Between two changes of the offset the clock runs evenly: full slots of it, cut at the changes."""
    if end_ms <= start_ms:
        return _slots(np.empty(0, dtype=np.int64), start_ms, end_ms)
    bounds = []
    low_ms, stop_ms = start_ms - DAY_MS, end_ms + DAY_MS
    stretches = [low_ms, *_changes(zone, low_ms, stop_ms), stop_ms]
    for begin, until in itertools.pairwise(stretches):
        offset = _offset_ms(begin, zone)
        first_full = -(-(begin + offset) // length_ms) * length_ms - offset
        bounds.append(np.array([begin] if begin != low_ms else [], dtype=np.int64))
        bounds.append(np.arange(first_full, until, length_ms, dtype=np.int64))
    return _slots(np.unique(np.concatenate(bounds)), start_ms, end_ms)


def _changes(zone: ZoneInfo, start_ms: int, end_ms: int) -> list[int]:
    """The instants in ``(start_ms, end_ms)`` at which the zone's offset changes; no zone does so twice a day."""
    changes = []
    before = _offset_ms(start_ms, zone)
    for ms in [*range(start_ms + DAY_MS, end_ms, DAY_MS), end_ms - 1]:
        now = _offset_ms(ms, zone)
        if now != before:
            changes.append(_change_between(ms - DAY_MS, ms, zone))
        before = now
    return changes


def _slots(bounds: Ints, start_ms: int, end_ms: int) -> Slots:
    """The slots between neighbouring bounds that touch ``[start_ms, end_ms)``."""
    starts, ends = bounds[:-1], bounds[1:]
    touching = (starts < end_ms) & (ends > start_ms)
    return Slots(starts_ms=starts[touching], ends_ms=ends[touching])
