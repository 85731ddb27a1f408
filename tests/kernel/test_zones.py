"""Every change of the clock of every zone from 2020 to 2030, against clocks that are read again and again."""

from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np

from aircox_listen_stats.kernel import calendar

from .oracles import HOUR_MS, S, utc

FIRST, LAST = utc("2020-01-01T00:00") // S, utc("2031-01-01T00:00") // S
DAY, HOUR = 86_400, 3_600
STEPS = (300, 60)
"""A clock is read every five minutes, or every minute where it changes between: Antarctica/Casey's at 00:01."""
LOOK = 4 * DAY
"""How often clocks are read to find changes: none changes twice as quickly (a Ramadan lasts four weeks)."""
AROUND = 2 * DAY
"""How far before and after a change the slots are looked at."""
BEFORE = 9 * DAY
"""From how far before the readings go on, so that they know what day it is."""
FOUR = dt.time(4)

# What a slot is, by the furthest that the clock has come (seconds since 1970 of local time).
BY_CLOCK: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "days": lambda shown: shown // DAY,
    "weeks": lambda shown: (shown // DAY + 3) // 7,  # 1970 began on a Thursday
    "months": lambda shown: shown.astype("M8[s]").astype("M8[M]"),
    "years": lambda shown: shown.astype("M8[s]").astype("M8[Y]"),
    "dayparts": lambda shown: shown // DAY * 6 + np.searchsorted([6, 10, 13, 16, 19], shown % DAY // HOUR, "right"),
}


def offset(zone: ZoneInfo, instant: int) -> int:
    return int(dt.datetime.fromtimestamp(instant, tz=zone).utcoffset().total_seconds())


def changes(zone: ZoneInfo) -> tuple[tuple[int, int, int], ...]:
    """Every change of the zone's clock: the instant, and what it shows less UTC before and after."""
    found = []
    for low, high in itertools.pairwise(range(FIRST, LAST + LOOK, LOOK)):
        before, after = offset(zone, low), offset(zone, high)
        if before != after:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
            found.append((high, before, after))
    return tuple(found)


def middle_of(change: tuple[int, int, int]) -> dt.time:
    """A local time that this change skips, or shows twice."""
    at, before, after = change
    seconds = (at + (before + after) // 2) % DAY
    return dt.time(seconds // HOUR, seconds % HOUR // 60)


def slots_of(kind: str | dt.time, zone: ZoneInfo, begin: int, until: int) -> calendar.Slots:
    """The slots of a kind; of a time, the broadcast days that begin then."""
    if isinstance(kind, dt.time):
        return calendar.broadcast_days(zone, begin * S, until * S, starts=kind)
    if kind == "dayparts":
        return calendar.dayparts(zone, begin * S, until * S)[0]
    return getattr(calendar, kind)(zone, begin * S, until * S)


def expected_starts(kind: str | dt.time, change: tuple[int, int, int], begin: int, until: int) -> list[int]:
    """The instants in ``(begin, until)`` at which another slot begins, from a clock that is read again and again."""
    at, before, after = change
    readings = np.arange(begin - BEFORE, until, next(step for step in STEPS if at % step == 0))
    offsets = np.where(readings < at, before, after)
    furthest = np.maximum.accumulate(readings + offsets)
    if isinstance(kind, dt.time):
        names = (furthest - kind.hour * HOUR - kind.minute * 60) // DAY
        is_new = names[1:] != names[:-1]
    elif kind in BY_CLOCK:
        names = BY_CLOCK[kind](furthest)
        is_new = names[1:] != names[:-1]
    else:
        names = (readings + offsets) // (HOUR if kind == "hours" else 900)
        is_new = (names[1:] != names[:-1]) | (offsets[1:] != offsets[:-1])
    starts = readings[1:][is_new]
    return starts[starts > begin].tolist()


def test_no_instant_is_lost_or_counted_twice_at_any_change_of_any_clock():
    zones: dict[tuple[tuple[int, int, int], ...], ZoneInfo] = {}
    for name in sorted(zoneinfo.available_timezones()):
        zone = ZoneInfo(name)
        zones.setdefault(changes(zone), zone)  # those that change alike are one
    zones.pop((), None)
    lengths = set()
    for all_changes, zone in zones.items():
        for number, change in enumerate(all_changes):
            at, before, after = change
            assert before % 900 == after % 900 == 0, zone  # clock quarter-hours are those of UTC
            begin, until = at - AROUND, at + AROUND
            neighbours = all_changes[max(0, number - 1) : number] + all_changes[number + 1 : number + 2]
            assert all(abs(other - at) > AROUND + BEFORE + DAY for other, _, _ in neighbours), zone
            for kind in ("quarter_hours", "hours", *BY_CLOCK, FOUR, middle_of(change)):
                slots = slots_of(kind, zone, begin, until)
                starts, ends = slots.starts_ms, slots.ends_ms
                assert (starts[1:] == ends[:-1]).all(), (zone, kind)
                assert (ends > starts).all(), (zone, kind)
                assert starts[0] <= begin * S < ends[0], (zone, kind)
                assert starts[-1] < until * S <= ends[-1], (zone, kind)
                assert (starts[1:] // S).tolist() == expected_starts(kind, change, begin, until), (zone, kind)
            days = slots_of("days", zone, at - 1, at + 1)
            real = sorted(set((days.ends_ms - days.starts_ms).tolist()) - {24 * HOUR_MS})
            lengths.update(real)
            assert real in ([], [(24 * HOUR - (after - before)) * S]), zone
    assert len(zones) > 40, "this database of time zones hardly has any that change"
    assert {23 * HOUR_MS, 25 * HOUR_MS, 24 * HOUR_MS - HOUR_MS // 2, 24 * HOUR_MS + HOUR_MS // 2} <= lengths
