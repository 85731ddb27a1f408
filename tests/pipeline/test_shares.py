"""Shares of a day: they add up to the day, are few, settle as the rest does, and outlive the sessions."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from django.db.models import Sum
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import DayShare, QuarterHour, Session, StaleWindow, Stream
from aircox_listen_stats.pipeline import live, quarters, rebuild, retention, shares, timeline
from aircox_listen_stats.pipeline.collect import Collector

from .conftest import HOUR, SETTINGS, T0, at
from .scripted import OneStation
from .test_quarters import NAMES, crowd, two_streams
from .test_rollup import session

pytestmark = pytest.mark.django_db

DAY = 24 * 3600
LATER = at(3 * DAY)
FOUR = at(-7 * 3600)
"""04:00 in Brussels of the day of T0."""


def refresh(start: float = 0, end: float = 1, now: int = LATER) -> int:
    return shares.refresh(1, at(start), at(end), now_ms=now, rule_sets=NAMES)


def rows(kind: str, *, rule_set: str = "all", stream_id: int = 0, started_ms: int = FOUR) -> dict[str, tuple[int, ...]]:
    found = DayShare.objects.filter(
        kind=kind, rule_set=rule_set, stream_id=stream_id, started=from_ms(started_ms), station_id=1
    )
    return {one.value: (one.listening_ms, one.inherited, one.begun) for one in found}


def label(some: list[Session], seed: int) -> None:
    rng = random.Random(seed)
    for one in some:
        one.country = rng.choice(("", "BE", "FR"))
        one.app = rng.choice(("", "VLC", "Sonos"))
        one.referrer = rng.choice((None, "-", "radio.example", "campus.example"))
    Session.objects.bulk_update(some, ["country", "app", "referrer"])


@pytest.mark.parametrize("seed", [1, 2])
def test_they_add_up_to_what_the_quarter_hours_say_of_the_day(stream: Stream, seed: int) -> None:
    streams = two_streams()
    label(crowd(streams, seed), seed)
    assert refresh(-DAY, 2 * DAY) > 0
    assert refresh(-DAY, 2 * DAY) == 0, "twice is once"
    quarters.refresh(1, at(-DAY), at(2 * DAY), now_ms=LATER, rule_sets=NAMES)
    for scope in (0, *(one.pk for one in streams)):
        for name in NAMES:
            for day_ms in (FOUR, FOUR + 24 * HOUR):
                mine = QuarterHour.objects.filter(stream_id=scope, rule_set=name).order_by("started")
                mine = mine.filter(started__gte=from_ms(day_ms), started__lt=from_ms(day_ms + 24 * HOUR))
                whole = mine.aggregate(heard=Sum("listening_ms"), begun=Sum("begun"))
                for kind in ("country", "app", "referrer"):
                    found = rows(kind, rule_set=name, stream_id=scope, started_ms=day_ms)
                    heard, inherited, begun = map(sum, zip(*found.values(), strict=True))
                    assert (heard, begun) == (whole["heard"], whole["begun"])
                    assert inherited == mine[0].inherited


def test_each_value_has_what_its_sessions_heard_of_the_day(stream: Stream) -> None:
    session(stream, 0, 600, country="BE", app="VLC", referrer="radio.example")
    session(stream, -8 * 3600, -6 * 3600, country="BE", app="Sonos", referrer="-")
    session(stream, 100, 400, parts=[[0, 100_000], [200_000, 300_000]], country="FR")
    session(stream, 100, 400, country="US", exclusion="bot")
    refresh()
    assert rows("country") == {"BE": (600_000 + 3_600_000, 1, 1), "FR": (200_000, 0, 1)}
    assert rows("app") == {"VLC": (600_000, 0, 1), "Sonos": (3_600_000, 1, 0), "": (200_000, 0, 1)}
    assert rows("referrer") == {"radio.example": (600_000, 0, 1), "-": (3_600_000, 1, 0), "": (200_000, 0, 1)}
    assert rows("country", stream_id=stream.pk) == rows("country")
    assert rows("country", rule_set="nielsen5") == {"BE": (600_000 + 3_600_000, 1, 1)}


def test_made_up_referrers_fill_no_table(stream: Stream) -> None:
    for number in range(3 * shares.MOST_VALUES):
        session(stream, number, number + 100, referrer=f"page{number}.example")
    session(stream, 0, 5000, referrer="radio.example")
    session(stream, 0, 1, referrer="-")
    refresh()
    found = rows("referrer")
    assert len(found) == shares.MOST_VALUES + 2
    assert found["radio.example"] == (5_000_000, 0, 1)
    assert found["-"] == (1000, 0, 1)
    assert found["*"] == ((2 * shares.MOST_VALUES + 1) * 100_000, 0, 2 * shares.MOST_VALUES + 1)


@given(st.lists(st.tuples(st.integers(-9 * 3600, DAY), st.integers(0, 9000), st.sampled_from("ABCDEF")), max_size=8))
@hypothesis_settings(max_examples=15, deadline=None)
def test_the_sum_of_the_shares_is_the_days_total(told: list[tuple[int, int, str]]) -> None:
    Stream.objects.all().delete()
    DayShare.objects.all().delete()
    stream = Stream.objects.create(slug="live", station_id=1, source="ice")
    most, shares.MOST_VALUES = shares.MOST_VALUES, 2
    try:
        for start, length, country in told:
            session(stream, start, start + length, country=country)
        refresh()
    finally:
        shares.MOST_VALUES = most
    end = FOUR + 24 * HOUR
    heard = [min(at(start + length), end) - max(at(start), FOUR) for start, length, _ in told]
    found = rows("country")
    assert sum(one[0] for one in found.values()) == sum(one for one in heard if one > 0)
    assert sum(one[1] + one[2] for one in found.values()) == sum(one > 0 for one in heard)
    assert len(found) <= 3


def test_a_day_is_provisional_while_somebody_is_there_and_late_input_makes_a_version(stream: Stream) -> None:
    one = session(stream, 0, 600, is_open=True, country="BE")
    refresh(now=at(700))
    assert set(DayShare.objects.values_list("settled", "version")) == {(False, 0)}
    assert shares.unsettled(1, now_ms=at(700), back_ms=7 * DAY * 1000) == []
    assert shares.unsettled(1, now_ms=LATER, back_ms=7 * DAY * 1000) == [(FOUR, FOUR + 1)]
    refresh()
    assert set(DayShare.objects.values_list("settled", "version")) == {(False, 0)}
    one.is_open = False
    one.save()
    refresh()
    assert set(DayShare.objects.values_list("settled", "version")) == {(True, 1)}
    assert refresh() == 0
    session(stream, 0, 600, country="FR", app="VLC")
    refresh(now=at(700))
    assert set(DayShare.objects.filter(kind="app").values_list("value", "settled", "version")) == {
        ("", True, 2),
        ("VLC", True, 2),
    }
    Session.objects.all().delete()
    refresh()
    assert rows("app") == {"": (0, 0, 0)}, "that nobody listened is a version too"
    assert refresh() == 0
    assert Counter(DayShare.objects.values_list("version", flat=True)).keys() == {3}


def test_they_outlive_the_sessions(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 1}
    session(stream, 100, 1000, country="BE")
    refresh()
    before = list(DayShare.objects.order_by("pk").values())
    now_ms = at(4 * DAY)
    retention.prune(now_ms=now_ms)
    assert not Session.objects.exists()
    assert refresh(now=now_ms) == 0
    assert list(DayShare.objects.order_by("pk").values()) == before


def test_a_rebuild_makes_them_and_changes_nothing_the_second_time(stream: Stream) -> None:
    session(stream, 100, 1000, country="BE", app="VLC", referrer="radio.example")
    rebuild.rebuild(1, at(0), at(2000), now_ms=LATER)
    before = list(DayShare.objects.order_by("pk").values())
    assert {one["value"] for one in before} == {"BE", "VLC", "radio.example"}
    rebuild.rebuild(1, at(0), at(2000), now_ms=LATER)
    assert list(DayShare.objects.order_by("pk").values()) == before


def test_a_day_of_another_length_and_a_delay(stream: Stream, settings: Any) -> None:
    """In Brussels 2026-10-24 has 25 hours from 04:00, and a stream is laid over it by its delay."""
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "TIME_ZONE": "Europe/Brussels"}
    Stream.objects.update(delay_ms=60_000)
    begin_ms = 1_792_807_200_000  # 2026-10-24 04:00 in Brussels
    back_s = (begin_ms - T0) / 1000
    session(stream, back_s - 3600, back_s + 30 * 3600, country="BE")
    refresh(back_s, back_s + 1)
    assert rows("country", started_ms=begin_ms) == {"BE": (25 * HOUR, 1, 0)}
    assert [to_ms(one) for one in DayShare.objects.values_list("started", flat=True).distinct()] == [begin_ms]


@pytest.mark.django_db(transaction=True)
def test_the_collector_keeps_the_running_day_settles_it_and_hears_of_late_ones(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "refresh", lambda *args, **kwargs: timeline.TimelineChange())
    monkeypatch.setattr(live.aircox, "log", OneStation)
    one = Collector(sources={}, onair=OneStation())  # type: ignore[arg-type]
    session(stream, 0, 600, country="BE")

    def step(seconds: float) -> dict[str, tuple[int, ...]]:
        one.step(now_ms=at(seconds))
        return rows("country", rule_set="triton")

    assert step(700) == {"BE": (600_000, 0, 1)}
    session(stream, 700, 760, country="FR")
    assert step(700 + 11 * 60) == {"BE": (600_000, 0, 1), "FR": (60_000, 0, 1)}
    step(2 * DAY)
    assert set(DayShare.objects.values_list("settled", "version")) == {(True, 1)}
    session(stream, 100, 400, country="FR")
    StaleWindow.objects.create(
        station_id=1, kind=StaleWindow.AUDIENCE, started=from_ms(at(100)), ended=from_ms(at(400))
    )
    assert step(8 * DAY) == {"BE": (600_000, 0, 1), "FR": (360_000, 0, 2)}
    one.close()
