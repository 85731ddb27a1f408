"""Quarter-hours: they add up to what the sessions themselves say of any longer period, and outlive them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from django.db.models import Max, Sum

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.kernel import metrics
from aircox_listen_stats.kernel.correlate import Listening
from aircox_listen_stats.kernel.types import Why
from aircox_listen_stats.models import QuarterChange, QuarterHour, Session, StaleWindow, Stream
from aircox_listen_stats.pipeline import causes, ingest, quarters, retention, rollup

from .conftest import HOUR, SETTINGS, T0, at
from .test_rollup import cover, session

pytestmark = pytest.mark.django_db

QUARTER = 900
DAY = 24 * 3600
LATER = at(2 * DAY)
NAMES = ("triton", "nielsen5", "acpm30", "openbroadcast", "all")


def refresh(start: float = 0, end: float = DAY, now: int = LATER) -> int:
    return quarters.refresh(1, at(start), at(end), now_ms=now, rule_sets=NAMES)


def crowd(streams: list[Stream], seed: int, number: int = 300) -> list[Session]:
    """Random sessions over a day and a bit, some of several parts, some that tell what was sent."""
    rng = random.Random(seed)
    made = []
    for _ in range(number):
        start = rng.uniform(-3600, DAY)
        parts, until = [], 0
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            begin = until + rng.randrange(1, 300_000) if parts else 0
            until = begin + int(rng.expovariate(1 / 1_500_000)) + 1
            parts.append([begin, until])
        more: dict[str, Any] = {"parts": parts if len(parts) > 1 else None, "listener": rng.randrange(60)}
        if rng.random() < 0.5:
            more |= {"bytes_sent": until * 16, "delivered_ms": until}
        made.append(session(rng.choice(streams), start, start + until / 1000, **more))
    return made


def listening_of(some: list[Session]) -> Listening:
    told = []
    for one in some:
        begin = to_ms(one.started)
        parts = one.parts or [[0, to_ms(one.ended) - begin]]
        told.append((one.listener, [(begin + a, begin + b) for a, b in parts], False))
    return Listening.of_parts(told)


def two_streams() -> list[Stream]:
    return [*Stream.objects.all(), Stream.objects.create(slug="low", station_id=1, source="ice")]


@pytest.mark.parametrize("seed", [1, 2])
def test_they_add_up_to_the_figures_of_a_whole_day(stream: Stream, settings: Any, seed: int) -> None:
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    streams = two_streams()
    crowd(streams, seed)
    for one in Session.objects.all():
        one.refresh_from_db()
    assert refresh() > 0
    assert refresh() == 0, "twice is once"
    scopes = [(one.pk, Session.objects.filter(stream=one)) for one in streams] + [(0, Session.objects.all())]
    for scope, found in scopes:
        listening = listening_of(list(found))
        for name in NAMES:
            [whole] = metrics.figures(listening, np.array([T0]), np.array([at(DAY)]), conf.get().rules(name))
            rows = QuarterHour.objects.filter(stream_id=scope, rule_set=name).order_by("started")
            sums = rows.aggregate(
                Sum("listening_ms"), Sum("person_ms"), Sum("begun"), Max("peak"), Sum("quarter_listeners"),
                Sum("quarter_listeners_in_one_piece"),
            )  # fmt: skip
            assert sums["listening_ms__sum"] == round(whole.tlh * 3_600_000)
            assert sums["person_ms__sum"] == round(whole.person_hours * 3_600_000)
            assert sums["begun__sum"] == whole.started_sessions
            assert rows[0].inherited + sums["begun__sum"] == whole.active_sessions
            assert sums["peak__max"] == whole.peak
            assert to_ms(rows.filter(peak=whole.peak)[0].peak_at) == whole.peak_at_ms
            assert sums["quarter_listeners__sum"] / (DAY / QUARTER) == pytest.approx(whole.aqh)
            assert sums["quarter_listeners_in_one_piece__sum"] / 96 == pytest.approx(whole.aqh_in_one_piece)


def test_what_was_sent_is_spread_over_what_was_heard_and_says_of_how_much_it_is_known(stream: Stream) -> None:
    session(stream, 0, 1800, bytes_sent=28_800_000, delivered_ms=1_810_000)
    session(stream, 900, 1800)
    refresh(0, 1800)
    first, second = QuarterHour.objects.filter(stream_id=0, rule_set="triton").order_by("started")
    assert (first.bytes_sent, first.bytes_told_ms, first.delivered_ms) == (14_400_000, 900_000, 905_000)
    assert (second.bytes_sent, second.bytes_told_ms, second.listening_ms) == (14_400_000, 900_000, 1_800_000)
    assert second.delivered_told_ms == 900_000


def test_one_that_runs_has_no_row_and_one_that_nobody_observed_neither(stream: Stream) -> None:
    cover(stream, 0, 450)
    session(stream, 1900, 5000)
    assert refresh(now=at(3000)) == 2 * (1 + 1) * len(NAMES)
    rows = QuarterHour.objects.filter(stream_id=0, rule_set="all").order_by("started")
    assert [((to_ms(row.started) - T0) // 1000, row.covered_ms, row.peak) for row in rows] == [
        (0, 450_000, 0),
        (1800, 0, 1),
    ]


def test_a_settled_one_that_changes_says_when_why_by_whom_and_from_what_to_what(stream: Stream) -> None:
    cover(stream, 0, 2700)
    session(stream, 100, 2600)
    refresh(0, 2700)
    assert set(QuarterHour.objects.values_list("settled", "version")) == {(True, 1)}
    assert refresh(0, 2700) == 0
    assert not QuarterChange.objects.exists(), "what settles does not change"
    session(stream, 1000, 2000)
    with causes.acting_as("command listen_stats_import by Ada"):
        ingest.mark_stale(StaleWindow.AUDIENCE, {1: [(at(1000), at(2000))]}, Why.LATE)
        ingest.mark_stale(StaleWindow.AUDIENCE, {1: [(at(9000), at(9100))]}, Why.LABEL)
    refresh(0, 2700)
    for name in NAMES:
        for scope in (0, stream.pk):
            note = QuarterChange.objects.get(stream_id=scope, rule_set=name)
            assert (to_ms(note.started), to_ms(note.ended)) == (at(900), at(2700))
            assert (note.quarters, to_ms(note.made)) == (2, LATER)
            assert note.causes == [["late", "command listen_stats_import by Ada"]]
            assert (note.before_ms, note.after_ms) == (1_700_000, 2_700_000)
    session(stream, 1100, 1900)
    quarters.refresh(1, at(0), at(2700), now_ms=LATER, rule_sets=NAMES, why=Why.REBUILD)
    last = QuarterChange.objects.filter(stream_id=0, rule_set="all").latest("pk")
    assert [why for why, _ in last.causes] == ["late", "rebuild"], "what waits is named too"
    StaleWindow.objects.all().delete()
    Session.objects.all().delete()
    refresh(0, 2700)
    last = QuarterChange.objects.filter(stream_id=0, rule_set="all").latest("pk")
    assert (last.causes, last.quarters, last.after_ms) == ([["anew", "collector"]], 3, 0)


def test_late_input_makes_a_new_version_of_a_settled_one(stream: Stream) -> None:
    cover(stream, 0, 900)
    session(stream, 100, 800)
    refresh(0, 900, now=at(1000))
    row = QuarterHour.objects.get(stream_id=0, rule_set="triton")
    assert (row.settled, row.version) == (False, 0)
    assert quarters.unsettled(1, now_ms=at(1000), back_ms=DAY * 1000) == []
    assert quarters.unsettled(1, now_ms=LATER, back_ms=7 * DAY * 1000) == [(T0, at(900))]
    refresh(0, 900)
    row.refresh_from_db()
    assert (row.settled, row.version, row.begun) == (True, 1, 1)
    session(stream, 200, 700)
    refresh(0, 900)
    row.refresh_from_db()
    assert (row.settled, row.version, row.begun) == (True, 2, 2)


def test_somebody_who_is_still_there_keeps_it_provisional(stream: Stream) -> None:
    session(stream, 100, 1000, is_open=True)
    refresh(0, 900)
    assert not QuarterHour.objects.filter(settled=True).exists()


def test_they_outlive_the_sessions(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 1}
    session(stream, 100, 1000)
    refresh()
    before = list(QuarterHour.objects.order_by("pk").values())
    now_ms = at(3 * DAY)
    retention.prune(now_ms=now_ms)
    assert not Session.objects.exists()
    assert refresh(now=now_ms) == 0
    assert list(QuarterHour.objects.order_by("pk").values()) == before


def test_each_stream_is_laid_over_the_studios_clock_by_its_own_delay(stream: Stream) -> None:
    Stream.objects.update(delay_ms=60_000)
    session(stream, 900, 960 + 900)
    refresh(0, 1800)
    found = dict(QuarterHour.objects.filter(stream_id=0, rule_set="all").values_list("started", "listening_ms"))
    assert found == {from_ms(T0): 60_000, from_ms(at(900)): 900_000}


def test_the_names_are_those_that_the_collector_keeps(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    assert set(rollup.every_rule_set()) == set(NAMES)
    assert HOUR == 4 * QUARTER * 1000
