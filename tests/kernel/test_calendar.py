"""Slots of a zone: oracle 5, every change of the clock, and odd offsets."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel import calendar
from aircox_listen_stats.kernel.calendar import (
    broadcast_day_start,
    broadcast_days,
    dayparts,
    days,
    hours,
    months,
    period_start,
    quarter_hours,
    weeks,
    years,
)
from aircox_listen_stats.kernel.correlate import Listening
from aircox_listen_stats.kernel.metrics import Periods

from .oracles import HOUR_MS, S, random_cases, utc

BRUSSELS = ZoneInfo("Europe/Brussels")
ZONES = ["Europe/Brussels", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "America/Havana", "UTC"]
FOUR = dt.time(4)
DAYS_OF_MONTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
MINUTE_MS = 60_000

# When clocks of the European Union change: 01:00 UTC on the last Sunday of March and of October.
SPRING = ["2020-03-29", "2021-03-28", "2022-03-27", "2023-03-26", "2024-03-31", "2025-03-30", "2026-03-29",
          "2027-03-28", "2028-03-26", "2029-03-25", "2030-03-31"]  # fmt: skip
AUTUMN = ["2020-10-25", "2021-10-31", "2022-10-30", "2023-10-29", "2024-10-27", "2025-10-26", "2026-10-25",
          "2027-10-31", "2028-10-29", "2029-10-28", "2030-10-27"]  # fmt: skip


def local(text: str, zone: str = "Europe/Brussels", fold: int = 0) -> int:
    moment = dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp()) * S


def pairs(slots):
    return list(zip(slots.starts_ms.tolist(), slots.ends_ms.tolist(), strict=True))


@pytest.mark.parametrize(("start", "length"), [("2026-03-28T04:00", 23), ("2026-10-24T04:00", 25)])
def test_broadcast_day_of_a_change_lasts_23_or_25_hours(start, length):
    begin = local(start)
    slots = broadcast_days(BRUSSELS, begin, begin + 1, starts=FOUR)
    assert pairs(slots) == [(begin, begin + length * HOUR_MS)]
    throughout = Listening.whole(
        started_ms=np.array([begin - HOUR_MS]), ended_ms=np.array([begin + 30 * HOUR_MS]), listener=np.array([1])
    )
    day = Periods(listening=throughout, starts_ms=slots.starts_ms, ends_ms=slots.ends_ms)
    assert (day.aas.tolist(), day.tlh.tolist()) == ([1.0], [length])


@pytest.mark.parametrize(("dates", "length"), [(SPRING, 23), (AUTUMN, 25)], ids=["spring", "autumn"])
def test_every_change_of_brussels_from_2020_to_2030(dates, length):
    for date in dates:
        begin = local(f"{date}T00:00")
        (day,) = pairs(days(BRUSSELS, begin, begin + length * HOUR_MS))
        assert day == (begin, begin + length * HOUR_MS)
        change = utc(f"{date}T01:00")
        assert len(hours(BRUSSELS, *day)) == length
        assert len(quarter_hours(BRUSSELS, *day)) == 4 * length
        assert change in hours(BRUSSELS, *day).starts_ms
        assert np.diff(hours(BRUSSELS, *day).starts_ms).tolist() == [HOUR_MS] * (length - 1)


def test_half_past_two_of_the_repeated_hour_is_two_rows_keyed_in_utc():
    first, second = local("2026-10-25T02:30"), local("2026-10-25T02:30", fold=1)
    assert second - first == HOUR_MS
    slots = quarter_hours(BRUSSELS, first, second + 1)
    assert slots.starts_ms[0] == first == utc("2026-10-25T00:30")
    assert slots.starts_ms[-1] == second == utc("2026-10-25T01:30")
    assert len(slots) == 5


def test_a_session_across_four_belongs_to_both_days_by_parts():
    four = local("2026-11-23T04:00")
    listening = Listening.whole(
        started_ms=np.array([four - HOUR_MS]), ended_ms=np.array([four + 2 * HOUR_MS]), listener=np.array([1])
    )
    slots = broadcast_days(BRUSSELS, four - HOUR_MS, four + HOUR_MS, starts=FOUR)
    both = Periods(listening=listening, starts_ms=slots.starts_ms, ends_ms=slots.ends_ms)
    assert both.tlh.tolist() == [1.0, 2.0]


def test_lord_howe_turns_by_half_an_hour_and_cuts_an_hour():
    """02:00 becomes 01:30 on 2026-04-05: the second 01:30 to 02:00 is an hour's half."""
    zone = ZoneInfo("Australia/Lord_Howe")
    begin = local("2026-04-05T00:00", zone.key)
    lengths = [(end - start) // MINUTE_MS for start, end in pairs(hours(zone, begin, begin + 4 * HOUR_MS))]
    assert lengths == [60, 60, 30, 60, 60]
    assert pairs(days(zone, begin, begin + 1)) == [(begin, begin + 24 * HOUR_MS + HOUR_MS // 2)]


def test_kathmandu_s_hours_begin_at_a_quarter_past_in_utc():
    zone = ZoneInfo("Asia/Kathmandu")
    slots = hours(zone, utc("2026-11-23T10:00"), utc("2026-11-23T10:30"))
    assert pairs(slots) == [
        (utc("2026-11-23T09:15"), utc("2026-11-23T10:15")),
        (utc("2026-11-23T10:15"), utc("2026-11-23T11:15")),
    ]


def test_st_johns_day():
    zone = ZoneInfo("America/St_Johns")
    begin = utc("2026-11-23T03:30")  # UTC-03:30
    assert pairs(days(zone, begin, begin + 1)) == [(begin, begin + 24 * HOUR_MS)]


def test_a_midnight_that_the_clock_skips_is_the_instant_of_the_skip():
    """Havana goes from 00:00 to 01:00 on 2026-03-08, so that day begins at 01:00 of the clock."""
    zone = ZoneInfo("America/Havana")
    noon = utc("2026-03-08T16:00")
    assert pairs(days(zone, noon, noon + 1)) == [(utc("2026-03-08T05:00"), utc("2026-03-09T04:00"))]


def test_a_broadcast_day_that_starts_in_the_skipped_hour():
    """02:30 does not come on 2026-03-29 in Brussels: the day begins when the clock jumps over it."""
    half_past_two = dt.time(2, 30)
    assert broadcast_day_start(utc("2026-03-29T12:00"), BRUSSELS, half_past_two) == utc("2026-03-29T01:00")


def test_a_midnight_that_comes_twice_begins_the_day_once():
    """Havana goes from 01:00 back to 00:00 on 2026-11-01."""
    zone = ZoneInfo("America/Havana")
    second_midnight = utc("2026-11-01T05:00")
    assert broadcast_day_start(second_midnight, zone, dt.time(0)) == utc("2026-11-01T04:00")
    assert pairs(days(zone, second_midnight, second_midnight + 1)) == [
        (utc("2026-11-01T04:00"), utc("2026-11-02T05:00"))
    ]


def test_the_new_day_stays_begun_when_the_clock_goes_back_over_midnight():
    """St John's went from 00:01 back to 23:01 of the day before, on 2006-10-29."""
    zone = ZoneInfo("America/St_Johns")
    began = utc("2006-10-29T02:30")
    assert broadcast_day_start(began + HOUR_MS // 2, zone, dt.time(0)) == began


def test_slots_are_whole_and_touch_the_period():
    ten = utc("2026-11-23T10:00")
    assert pairs(quarter_hours(BRUSSELS, ten - 1, ten + 1)) == [
        (ten - 15 * MINUTE_MS, ten),
        (ten, ten + 15 * MINUTE_MS),
    ]
    assert pairs(quarter_hours(BRUSSELS, ten, ten + 15 * MINUTE_MS)) == [(ten, ten + 15 * MINUTE_MS)]


@pytest.mark.parametrize("make", [quarter_hours, hours, days, weeks, months, years])
def test_no_time_has_no_slots(make):
    assert len(make(BRUSSELS, utc("2026-11-23T10:00"), utc("2026-11-23T10:00"))) == 0
    assert len(make(BRUSSELS, utc("2026-11-23T10:00"), utc("2026-11-23T09:00"))) == 0


def test_weeks_begin_on_monday():
    (week,) = pairs(weeks(BRUSSELS, utc("2026-03-25T12:00"), utc("2026-03-25T13:00")))
    assert week == (local("2026-03-23T00:00"), local("2026-03-30T00:00"))
    assert (week[1] - week[0]) // HOUR_MS == 7 * 24 - 1


def test_months_are_as_long_as_they_were():
    """From the 1st at 04:00, so that the night of the 1st belongs to the month before."""
    slots = months(BRUSSELS, local("2026-01-01T04:00"), local("2027-01-01T04:00"), starts=FOUR)
    assert slots.starts_ms[0] == local("2026-01-01T04:00")
    assert slots.ends_ms[-1] == local("2027-01-01T04:00")
    longer = ((slots.ends_ms - slots.starts_ms) // HOUR_MS) - 24 * np.array(DAYS_OF_MONTHS)
    assert longer.tolist() == [0, 0, -1, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert pairs(months(BRUSSELS, local("2026-11-01T03:59"), local("2026-11-01T04:00"), starts=FOUR)) == [
        (local("2026-10-01T04:00"), local("2026-11-01T04:00"))
    ]


def test_years_have_their_leap_day():
    slots = years(BRUSSELS, local("2027-12-31T23:59"), local("2029-01-01T00:00"))
    assert ((slots.ends_ms - slots.starts_ms) // (24 * HOUR_MS)).tolist() == [365, 366]
    assert pairs(slots)[1] == (local("2028-01-01T00:00"), local("2029-01-01T00:00"))


def test_dayparts_of_the_day_that_the_clock_goes_back():
    begin = local("2026-10-25T00:00")
    slots, part = dayparts(BRUSSELS, begin, begin + 25 * HOUR_MS)
    assert part.tolist() == [0, 1, 2, 3, 4, 5]
    assert ((slots.ends_ms - slots.starts_ms) // HOUR_MS).tolist() == [7, 4, 3, 3, 3, 5]


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [("day", "2026-11-18T04:00"), ("week", "2026-11-16T04:00"), ("month", "2026-11-01T04:00")],
)
def test_period_start(rotation, expected):
    assert period_start(local("2026-11-19T03:59"), rotation, BRUSSELS, FOUR) == local(expected)


@pytest.mark.parametrize(("rotation", "expected"), [("week", "2026-10-26T04:00"), ("month", "2026-10-01T04:00")])
def test_the_night_of_the_first_belongs_to_the_month_before(rotation, expected):
    assert period_start(local("2026-11-01T03:59"), rotation, BRUSSELS, FOUR) == local(expected)


def test_an_unknown_rotation_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Unknown rotation 'yearly'\. Allowed: day, week, month\."):
        period_start(0, "yearly", BRUSSELS, FOUR)


STARTING_HOURS = {"days": {0}, "weeks": {0}, "months": {0}, "years": {0}, "broadcast_days": {4}}

instants = st.integers(utc("2020-01-01T00:00") // MINUTE_MS, utc("2030-12-31T00:00") // MINUTE_MS).map(
    lambda minutes: minutes * MINUTE_MS
)


@random_cases(max_examples=150)
@given(
    st.sampled_from(ZONES),
    instants,
    st.integers(1, 10 * 24 * 60),
    st.sampled_from(["quarter_hours", "hours", "days", "weeks", "months", "years", "broadcast_days"]),
)
def test_slots_tile_the_period_and_begin_where_the_clock_says(name, start, minutes, kind):
    zone = ZoneInfo(name)
    end = start + minutes * MINUTE_MS
    more = {"starts": FOUR} if kind == "broadcast_days" else {}
    slots = getattr(calendar, kind)(zone, start, end, **more)
    assert slots.starts_ms[0] <= start < slots.ends_ms[0]
    assert slots.starts_ms[-1] < end <= slots.ends_ms[-1]
    assert slots.starts_ms[1:].tolist() == slots.ends_ms[:-1].tolist()
    for begin in slots.starts_ms.tolist():
        shown = dt.datetime.fromtimestamp(begin / S, tz=zone)
        before = dt.datetime.fromtimestamp(begin / S - 1, tz=zone)
        if shown.utcoffset() == before.utcoffset():  # else the clock was changed just here
            assert shown.minute % {"quarter_hours": 15}.get(kind, 60) == 0
            assert shown.hour in STARTING_HOURS.get(kind, set(range(24)))
            assert kind != "weeks" or shown.weekday() == 0
            assert kind not in ("months", "years") or shown.day == 1
            assert kind != "years" or shown.month == 1


@random_cases(max_examples=150)
@given(st.sampled_from(ZONES), instants)
def test_the_start_of_the_broadcast_day_is_that_of_its_slot(name, instant):
    zone = ZoneInfo(name)
    (slot,) = pairs(broadcast_days(zone, instant, instant + 1, starts=FOUR))
    assert broadcast_day_start(instant, zone, FOUR) == slot[0]
