"""What a listener's players told long ago costs nothing today, and changes nothing."""

from __future__ import annotations

import importlib
import random
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aircox_listen_stats import conf
from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import PlayerEvent, PlayerSession, PlayerVisit, RecordingPlay, Stream
from aircox_listen_stats.pipeline import player_sessions, players, retention

from .conftest import HOUR, SETTINGS, S, at
from .test_players import ANNA, BELA, DAY, Page, everything, look, sessions

pytestmark = pytest.mark.django_db

DAY_SECONDS = DAY / S
DAY_CHANGES = 17 * 3600
"""Seconds from T0, eleven here, to four in the morning."""


class RowsRead:
    """Counts the rows that SELECTs give, by asking the database for their number."""

    def __init__(self) -> None:
        self.rows = self.queries = 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT"):
            self.queries += 1
            with context["connection"].cursor() as cursor:
                # Past the wrapper, or it would count itself.
                cursor.cursor.execute(*self._count(cursor, sql, params))
                self.rows += cursor.fetchone()[0]
        return execute(sql, params, many, context)

    @staticmethod
    def _count(cursor: Any, sql: str, params: Any) -> tuple[str, Any]:
        counting = f"SELECT COUNT(*) FROM ({sql}) told"
        if connection.vendor == "sqlite":
            return cursor.cursor.convert_query(counting), params
        return counting, params


def cost(seconds: float) -> tuple[int, int]:
    """Queries of a look, and rows that they give."""
    read = RowsRead()
    with connection.execute_wrapper(read):
        assert look(seconds).events
    return read.queries, read.rows


def play(start: float, *, listener: int = ANNA, stream: Stream, beats: int = 4) -> None:
    page = Page(listener, stream=stream)
    page.tell("playing", start)
    for beat in range(1, beats):
        page.tell("heartbeat", start + 30 * beat)
    page.tell("paused", start + 30 * beats)


# What a look costs ------------------------------------------------------------------------------------


def test_a_look_costs_the_same_however_long_the_history_is(stream: Stream) -> None:
    """One key for a month: the days before are not read, and of the day one row for each page."""
    costs = []
    day = 0
    for days in (1, 6):
        for _ in range(days):
            for hour in range(8):
                play(day * DAY_SECONDS + hour * 1800, stream=stream)
            day += 1
            look((day - 1) * DAY_SECONDS + 9 * 1800)
        play((day - 1) * DAY_SECONDS + 9 * 1800, stream=stream)
        costs.append(cost((day - 1) * DAY_SECONDS + 9 * 1800 + 300))
    assert PlayerEvent.objects.count() == 7 * 8 * 5 + 2 * 5
    assert costs[0] == costs[1]
    assert costs[0][1] < 60


def test_another_page_of_the_day_is_one_row_and_not_its_events(stream: Stream) -> None:
    costs = []
    for beats, start in ((4, 0), (100, DAY_SECONDS)):
        play(start, stream=stream, beats=beats)
        look(start + 3700)
        play(start + 3700, stream=stream)
        costs.append(cost(start + 3900))
    assert costs[0] == costs[1]


def test_a_crowd_behind_one_key_costs_no_more_however_many_they_are(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_sessions, "MOST_PAGES", 5)
    costs = []
    start = 0
    for pages in (8, 40):
        for _ in range(pages):
            start += 20
            play(start, stream=stream)
        look(start + 200)
        start += 300
        play(start, stream=stream)
        costs.append(cost(start + 200))
    assert costs[0] == costs[1]
    assert PlayerSession.objects.count() == PlayerVisit.objects.count() == 50


def test_only_sessions_that_differ_are_written(stream: Stream) -> None:
    play(0, stream=stream)
    look(200)
    kept = PlayerSession.objects.get().pk
    play(1000, stream=stream)
    look(1200)
    assert PlayerSession.objects.order_by("started").first().pk == kept  # type: ignore[union-attr]
    assert PlayerSession.objects.count() == 2


# Crowds -----------------------------------------------------------------------------------------------


def test_a_crowds_pages_are_not_put_together(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_sessions, "MOST_PAGES", 2)
    for start in (0, 121):
        play(start, stream=stream)
        look(start + 121)
    assert sessions() == [(ANNA, 0, 241, 240, 0, 240, False)]
    play(500, stream=stream)
    play(500, listener=BELA, stream=stream)
    look(700)
    assert sorted(sessions()) == [
        (ANNA, 0, 120, 120, 0, 120, False),
        (ANNA, 121, 241, 120, 0, 120, False),
        (ANNA, 500, 620, 120, 0, 120, False),
        (BELA, 500, 620, 120, 0, 120, False),
    ]
    assert set(PlayerSession.objects.filter(listener=ANNA).values_list("visit", flat=True)) == set(
        PlayerVisit.objects.filter(listener=ANNA).values_list("visit", flat=True)
    )


def test_a_page_that_turns_out_to_be_anothers_leaves_the_crowd(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_sessions, "MOST_PAGES", 1)
    for start in (0, 300):
        play(start, listener=BELA, stream=stream)
    page = Page(BELA, stream=stream)
    page.tell("heartbeat", 600, sequence=2)
    page.tell("paused", 660, sequence=3)
    look(800)
    assert [row[:3] for row in sessions()] == [(BELA, 0, 120), (BELA, 300, 420), (BELA, 600, 660)]
    page.tell("playing", 590, sequence=1, listener=ANNA)
    look(801)
    assert [row[:3] for row in sessions()] == [(BELA, 0, 120), (BELA, 300, 420), (ANNA, 590, 660)]


# Days -------------------------------------------------------------------------------------------------


def test_pages_of_two_broadcast_days_are_two_sessions(stream: Stream) -> None:
    """A page that plays on stays of the day in which it was opened."""
    assert player_sessions.day_of(at(DAY_SECONDS)) == at(DAY_CHANGES)
    play(DAY_CHANGES - 100, stream=stream)
    play(DAY_CHANGES + 30, stream=stream)
    look(DAY_CHANGES + 400)
    found = [(start - DAY_CHANGES, end - DAY_CHANGES) for _, start, end, *_ in sessions()]
    assert found == [(-100, 20), (30, 150)]
    assert PlayerSession.objects.values("day").distinct().count() == 2


def test_the_days_before_go_while_the_listener_listens_on(stream: Stream) -> None:
    """A key of a month: what was told four days ago is deleted although its listener was here today."""
    for day in range(6):
        for start in (0, 200):
            play(day * DAY_SECONDS + start, stream=stream)
        look(day * DAY_SECONDS + 3600)
    made = everything()[1:]
    now_ms = at(5 * DAY_SECONDS + 3700)
    limits = {"events_before_ms": now_ms - 2 * DAY, "sessions_before_ms": at(0), "now_ms": now_ms}
    assert players.waiting_to_be_pruned(**limits) == (4 * 2 * 5, 0)
    assert players.prune(**limits) == (4 * 2 * 5, 0)
    assert everything()[1:] == made
    assert PlayerVisit.objects.count() == 4
    play(5 * DAY_SECONDS + 3800, stream=stream)
    look(5 * DAY_SECONDS + 4000)
    assert len(everything()[1]) == len(made[0]) + 1


def test_what_is_waited_for_keeps_the_pages_of_its_day(stream: Stream) -> None:
    """A collector that stood still: nothing is derived from a rest of a day."""
    play(0, stream=stream)
    look(200)
    play(100, stream=stream)
    limits = {"events_before_ms": at(4 * DAY_SECONDS), "sessions_before_ms": at(0), "now_ms": at(6 * DAY_SECONDS)}
    assert players.prune(**limits) == (0, 0)
    look(6 * DAY_SECONDS)
    assert players.prune(**limits) == (10, 0)


def told_of_days(stream: Stream, days: int) -> None:
    """A play of a minute on each day, and a look at it."""
    for day in range(days):
        page = Page(stream=stream)
        page.tell("playing", day * DAY_SECONDS, position=0)
        page.tell("paused", day * DAY_SECONDS + 60, position=60)
        look(day * DAY_SECONDS + 100)


def derived_anew(days: int) -> int:
    """How many plays of these days a rebuild that ends with the last of them derives."""
    return players.rebuild(at(-DAY_SECONDS), at(days * DAY_SECONDS), now_ms=at(days * DAY_SECONDS))


@pytest.mark.parametrize(("keep", "left"), [(2, 2), (7, 7), (31, 10)])
def test_plays_are_derived_anew_as_far_back_as_their_events_are_kept(
    stream: Stream, settings: Any, keep: int, left: int
) -> None:
    """Older ones stay as they are, whatever somebody did to them: nothing says any more what they were made of."""
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {"enabled": True, "keep_events_days": keep}}
    told_of_days(stream, 10)
    now = 9 * DAY_SECONDS + 200
    retention.prune(now_ms=at(now))
    RecordingPlay.objects.update(played_ms=1)
    assert derived_anew(10) == left
    assert RecordingPlay.objects.filter(played_ms=60 * S).count() == left
    assert RecordingPlay.objects.count() == 10


def test_no_key_is_forgotten_while_its_events_would_bring_it_back(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "KEEP_SESSIONS_DAYS": 1,
        "PLAYER": {"enabled": True, "keep_events_days": 7},
    }
    told_of_days(stream, 1)
    for day, forgotten in ((5, False), (9, True)):
        would = retention.prune(now_ms=at(day * DAY_SECONDS), dry_run=True)
        done = retention.prune(now_ms=at(day * DAY_SECONDS))
        assert (would.player_events, would.plays) == (done.player_events, done.plays) == (2 * forgotten, 2 * forgotten)
        derived_anew(day)
        keys = {RecordingPlay.objects.get().listener, PlayerSession.objects.get().listener}
        assert keys == {None if forgotten else ANNA}


@pytest.mark.parametrize("days", [0, 1, 32])
def test_events_are_kept_for_longer_than_a_page_may_tell_and_no_longer_than_a_key_lives(days: int) -> None:
    with pytest.raises(ConfigurationError, match="expected 2 to 31 days"):
        conf.read({**SETTINGS, "PLAYER": {"keep_events_days": days}})


# The same as all at once --------------------------------------------------------------------------------


def derived_at_once(now: float) -> list[list[dict[str, Any]]]:
    """What all events make for one who has never seen any of them."""
    for model in (PlayerVisit, PlayerSession, RecordingPlay):
        model.objects.all().delete()
    PlayerEvent.objects.update(is_fresh=True)
    while look(now).more:
        pass
    return everything()


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 2**32), most_pages=st.sampled_from([3, 500]))
def test_looking_as_it_comes_is_the_same_as_looking_once_at_all_of_it(seed: int, most_pages: int) -> None:
    """Pages of days, late and doubled beacons, looks at any moment, a look-back: the last look says what one would."""
    before, player_sessions.MOST_PAGES = player_sessions.MOST_PAGES, most_pages
    try:
        _clear()
        now = _live_through(random.Random(seed))
        look(now + 3600)
        stepwise = everything()
        assert stepwise[0]
        assert derived_at_once(now + 3600) == stepwise
        assert derived_at_once(now + DAY_SECONDS) == stepwise
        found = players.derived(at(-2 * DAY_SECONDS), at(now), now_ms=at(now + 3600))
        assert (found.plays_differing, found.sessions_differing) == (0, 0)
    finally:
        player_sessions.MOST_PAGES = before


def _clear() -> None:
    for model in (PlayerEvent, PlayerVisit, PlayerSession, RecordingPlay):
        model.objects.all().delete()


def _live_through(chance: random.Random) -> float:
    """Tells what some pages do in two days, each event as it arrives; looks now and then. The seconds at the end.

    Beacons overtake each other, some come minutes late, and the key changes
    under a page that plays on: whose it is, and of which day, its first event says.
    """
    told = []
    for _ in range(chance.randint(1, 9)):
        page = Page(chance.choice([ANNA, ANNA, BELA]), exclusion=chance.choice(["", "", "bot"]))
        second = chance.choice([0, 0, 0, DAY_CHANGES - 500]) + chance.uniform(0, 2000)
        for sequence in range(chance.randint(1, 12)):
            second += chance.choice([1, 10, 30, 30, 89, 91, 400])
            more = {"sequence": sequence, "listener": page.listener if sequence < 4 else BELA}
            position = chance.choice([None, chance.uniform(0, 700), chance.uniform(480, 600)])
            state = chance.choice(["playing", "playing", "heartbeat", "heartbeat", "paused", "seek", "stopped"])
            told.append((second + chance.choice([0, 0, 0, 0, 25, 700]), second, page, state, position, more))
    now = 0.0
    for arrives, second, page, state, position, more in sorted(told, key=lambda one: one[0]):
        page.tell(state, second, position=position, **more)
        now = max(now, arrives)
        if chance.random() < 0.4:
            look(now + chance.choice([0, 1, 100, 130]))
    return now


# Coming from before ---------------------------------------------------------------------------------------


def test_an_installation_that_was_there_derives_all_that_it_kept_again(stream: Stream) -> None:
    play(0, stream=stream)
    play(100, listener=BELA, stream=stream)
    look(300)
    made = everything()
    PlayerSession.objects.update(day=None)
    PlayerVisit.objects.update(stretches=[])
    PlayerSession.objects.create(
        listener=ANNA, started=from_ms(at(-3600)), ended=from_ms(at(-3540)), live_ms=1, on_demand_ms=0, played_ms=1
    )
    migration = importlib.import_module("aircox_listen_stats.migrations.0019_player_days")
    migration.derive_again(apps, SimpleNamespace(connection=connection))
    look(400)
    old = PlayerSession.objects.get(day=None)
    assert to_ms(old.started) == at(0) - HOUR
    old.delete()
    assert everything() == made
