"""What web players told, in the tables: visits, sessions, plays, and live listening where players count."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection

from aircox_listen_stats import conf
from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.kernel.airlog import SoundRow
from aircox_listen_stats.kernel.player import LATENESS_MS, SILENCE_MS, Listening, visit_sessions
from aircox_listen_stats.models import (
    Connection,
    Inbox,
    PlayerEvent,
    PlayerSession,
    PlayerVisit,
    Recording,
    RecordingPlay,
    Session,
    Stream,
)
from aircox_listen_stats.onair import aircox
from aircox_listen_stats.pipeline import inbox, ingest, players
from aircox_listen_stats.pipeline.collect import Collector
from aircox_listen_stats.sources import registry

from .conftest import HOUR, SETTINGS, S, at

pytestmark = pytest.mark.django_db

ANNA, BELA = 11, 22
SOUND = 7
DAY = 24 * HOUR


class Books:
    """aircox's sounds, as far as these tests need them."""

    def __init__(self) -> None:
        self.rows = {
            SOUND: SoundRow(
                id=SOUND,
                title="Jazz of yesterday",
                program_id=12,
                program_title="Campus Jazz",
                episode_ids=(40,),
                duration_ms=600 * S,
            )
        }

    def sounds(self, ids: Any) -> dict[int, SoundRow]:
        return {sound_id: self.rows[sound_id] for sound_id in ids if sound_id in self.rows}


class Page:
    """A page that plays, and what it tells."""

    numbers = itertools.count(1)

    def __init__(self, listener: int = ANNA, *, stream: Stream | None = None, **who: str) -> None:
        self.visit = next(self.numbers)
        self.listener = listener
        self.stream = stream
        self.who = {"country": "BE", "app": "Firefox", **who}
        self.count = 0

    def tell(self, state: str, seconds: float, *, position: float | None = None, **more: Any) -> PlayerEvent:
        self.count += 1
        given = {
            "visit": self.visit,
            "sequence": self.count,
            "state": state,
            "at": from_ms(at(seconds)),
            "listener": self.listener,
            **self.who,
            **more,
        }
        if position is not None:
            given |= {"sound_id": more.get("sound_id", SOUND), "position_ms": round(position * S)}
        elif self.stream is not None:
            given |= {"stream": self.stream}
        return PlayerEvent.objects.create(**given)


def look(seconds: float, books: Books | None = None) -> players.Refreshed:
    return players.refresh(books or Books(), now_ms=at(seconds))  # type: ignore[arg-type]


def sessions() -> list[tuple[int | None, float, float, float, float, float, bool]]:
    """(listener, start, end, live, on demand, played, open) in seconds."""
    return [
        (
            row.listener,
            (to_ms(row.started) - at(0)) / S,
            (to_ms(row.ended) - at(0)) / S,
            row.live_ms / S,
            row.on_demand_ms / S,
            row.played_ms / S,
            row.is_open,
        )
        for row in PlayerSession.objects.order_by("started", "pk")
    ]


def everything() -> list[list[dict[str, Any]]]:
    """All that is made of events, without its row numbers."""
    tables = (
        (PlayerVisit, ()),
        (PlayerSession, ("id",)),
        (RecordingPlay, ("id", "recording_id")),
        (Recording, ("id",)),
    )
    return [
        sorted(
            ({name: value for name, value in row.items() if name not in left_out} for row in model.objects.values()),
            key=repr,
        )
        for model, left_out in tables
    ]


# Recordings ----------------------------------------------------------------------------------------


def test_a_recording_that_was_heard_becomes_a_play_with_its_sections(db):
    page = Page()
    page.tell("playing", 0, position=0)
    page.tell("heartbeat", 30, position=30)
    page.tell("heartbeat", 40, position=40)
    page.tell("seek", 40, position=300)
    page.tell("paused", 60, position=320)
    look(61)
    play = RecordingPlay.objects.get()
    assert play.sections == [[0, 40 * S], [300 * S, 320 * S]]
    assert (play.played_ms, play.dropped, play.listener) == (60 * S, 0, ANNA)
    assert (to_ms(play.started), to_ms(play.seen)) == (at(0), at(60))
    assert (play.country, play.app) == ("BE", "Firefox")
    recording = play.recording
    assert (recording.sound_id, recording.title, recording.program_id, recording.episode_id) == (
        SOUND,
        "Jazz of yesterday",
        12,
        40,
    )
    assert sessions() == [(ANNA, 0, 60, 0, 60, 60, False)]


def test_a_recording_keeps_its_title_when_aircox_has_lost_it(db):
    books = Books()
    page = Page()
    page.tell("playing", 0, position=0)
    look(1, books)
    books.rows.clear()
    page.tell("paused", 20, position=20)
    look(21, books)
    assert RecordingPlay.objects.get().recording.title == "Jazz of yesterday"
    assert RecordingPlay.objects.get().played_ms == 20 * S


def test_a_recording_that_aircox_never_had_is_counted_without_a_title(db):
    page = Page()
    page.tell("playing", 0, position=0, sound_id=999)
    page.tell("paused", 9, position=9, sound_id=999)
    look(10)
    assert RecordingPlay.objects.get().recording.title == ""


def test_what_was_only_sought_through_is_no_play(db):
    page = Page()
    page.tell("playing", 0, position=0)
    page.tell("seek", 1, position=50)
    page.tell("seek", 2, position=40)
    look(3)
    assert not RecordingPlay.objects.exists()


def test_a_play_that_turns_out_empty_goes_again(db):
    page = Page()
    page.tell("playing", 0, position=10)
    page.tell("heartbeat", 5, position=15)
    look(6)
    assert RecordingPlay.objects.count() == 1
    page.tell("heartbeat", 7, position=10)
    look(8)
    assert not RecordingPlay.objects.exists()


def test_what_is_played_again_after_the_end_is_a_section_of_its_own(db):
    page = Page()
    for second, state, position in [(0, "playing", 580), (20, "stopped", 600), (30, "playing", 0), (40, "paused", 10)]:
        page.tell(state, second, position=position)
    look(41)
    assert RecordingPlay.objects.get().sections == [[580 * S, 600 * S], [0, 10 * S]]


def test_a_position_beyond_the_recording_is_its_end(db):
    page = Page()
    page.tell("playing", 0, position=0)
    page.tell("paused", 20, position=80_000)
    look(21)
    assert RecordingPlay.objects.get().sections == [[0, 600 * S]]


def test_a_player_that_knows_no_duration_is_bounded_by_the_recordings(db):
    page = Page()
    page.tell("playing", 0, position=590, duration_ms=500)
    look(60)
    assert sessions() == [(ANNA, 0, 10, 0, 10, 10, False)]


def test_two_pages_of_one_listener_are_two_plays(db):
    for page in (Page(), Page()):
        page.tell("playing", 0, position=0)
        page.tell("paused", 30, position=30)
    look(31)
    assert [play.played_ms for play in RecordingPlay.objects.all()] == [30 * S, 30 * S]


# Visits and sessions -------------------------------------------------------------------------------


def test_live_and_on_demand_stand_apart_in_one_session(stream):
    page = Page(stream=stream)
    page.tell("playing", 0)
    page.tell("heartbeat", 60)
    page.tell("paused", 120)
    page.tell("playing", 300, position=0)
    page.tell("heartbeat", 360, position=60)
    page.tell("paused", 420, position=120)
    look(421)
    assert sessions() == [(ANNA, 0, 420, 120, 120, 240, False)]


def test_a_page_that_was_loaded_anew_goes_on_with_the_session(stream):
    for page, start in ((Page(stream=stream), 0), (Page(stream=stream), 61)):
        page.tell("playing", start)
        page.tell("stopped", start + 60)
    look(200)
    assert sessions() == [(ANNA, 0, 121, 120, 0, 120, False)]


def test_two_tabs_at_once_are_two_sessions(stream):
    for page, start in ((Page(stream=stream), 0), (Page(stream=stream), 30)):
        page.tell("playing", start)
        page.tell("stopped", start + 60)
    look(200)
    assert sessions() == [(ANNA, 0, 60, 60, 0, 60, False), (ANNA, 30, 90, 60, 0, 60, False)]


def test_an_abandoned_player_is_closed_where_it_was_last_heard(stream):
    page = Page(stream=stream)
    page.tell("playing", 0)
    page.tell("heartbeat", 30)
    look(31)
    assert sessions() == [(ANNA, 0, 30, 30, 0, 30, True)]
    patience = (SILENCE_MS + LATENESS_MS) / S
    assert look(30 + patience).visits == 0
    assert look(30 + patience + 1).visits == 1
    assert sessions() == [(ANNA, 0, 30, 30, 0, 30, False)]
    assert not PlayerVisit.objects.get().is_open
    assert look(30 + patience + 2).visits == 0


def test_nothing_new_is_nothing_done(stream, django_assert_num_queries):
    with django_assert_num_queries(2):
        assert look(0) == players.Refreshed()


def test_a_page_over_the_change_of_the_secret_stays_one_listener(stream):
    page = Page(stream=stream)
    page.tell("playing", 0)
    page.listener = BELA
    page.tell("heartbeat", 30)
    page.tell("paused", 60)
    look(61)
    assert sessions() == [(ANNA, 0, 60, 60, 0, 60, False)]
    assert PlayerVisit.objects.get().listener == ANNA


def test_a_page_is_its_first_events_listener_also_when_that_came_last(stream):
    page = Page(stream=stream)
    page.tell("playing", 0)
    page.listener = BELA
    page.tell("heartbeat", 30)
    page.tell("paused", 60)
    first = PlayerEvent.objects.get(sequence=1)
    PlayerEvent.objects.filter(pk=first.pk).delete()
    look(61)
    assert [row[0] for row in sessions()] == [BELA]
    first.pk = None
    first.save(force_insert=True)
    look(62)
    assert sessions() == [(ANNA, 0, 60, 60, 0, 60, False)]


def test_bots_are_kept_with_their_label(db):
    page = Page(exclusion="bot", rule="crawler")
    page.tell("playing", 0, position=0)
    page.tell("paused", 30, position=30)
    look(31)
    assert RecordingPlay.objects.get().exclusion == "bot"
    assert PlayerSession.objects.get().rule == "crawler"


@pytest.mark.parametrize("seed", range(6))
def test_order_of_arrival_and_looks_in_between_change_nothing(stream, seed):
    chance = random.Random(seed)
    told: list[PlayerEvent] = []
    for listener in (ANNA, ANNA, BELA):
        page = Page(listener, stream=stream)
        second = chance.uniform(0, 600)
        for _ in range(25):
            second += chance.choice([1, 10, 30, 89, 91, 400])
            state = chance.choice(["playing", "heartbeat", "heartbeat", "paused", "seek", "buffering", "stopped"])
            position = chance.choice([None, chance.uniform(0, 700)])
            told.append(page.tell(state, second, position=position))
    look(90_000)
    expected = everything()
    PlayerEvent.objects.all().delete()
    for model in (PlayerVisit, PlayerSession, RecordingPlay):
        model.objects.all().delete()
    chance.shuffle(told)
    for number, event in enumerate(told, start=1):
        event.pk = None
        event.is_fresh = True
        event.save(force_insert=True)
        if number % 7 == 0:
            look(90_000)
    look(90_000)
    assert everything() == expected


def test_a_batch_that_is_full_says_that_there_is_more(stream, monkeypatch):
    monkeypatch.setattr(players, "BATCH", 3)
    page = Page(stream=stream)
    for second in range(5):
        page.tell("heartbeat", second)
    assert look(10).more
    assert not look(10).more
    assert sessions() == [(ANNA, 0, 4, 4, 0, 4, True)]


# openbroadcast's own SQL -----------------------------------------------------------------------------


LITERAL = """
WITH told (listener, device, started, ended, is_live) AS (VALUES {rows}),
gaps AS (
    SELECT *, started - LAG(ended) OVER (PARTITION BY listener, device ORDER BY started) AS gap FROM told
),
numbered AS (
    SELECT *, SUM(CASE WHEN gap > 300000 THEN 1 ELSE 0 END)
        OVER (PARTITION BY listener, device ORDER BY started) AS number FROM gaps
)
SELECT MIN(started), MAX(ended), SUM(CASE WHEN is_live = 1 THEN ended - started ELSE 0 END),
    SUM(CASE WHEN is_live = 0 THEN ended - started ELSE 0 END), SUM(ended - started), listener, device
FROM numbered GROUP BY listener, device, number HAVING SUM(ended - started) > 30000 ORDER BY 1, 6, 7
"""
"""The session query of openbroadcast written out: the gap from the row before, sums, more than 30 s."""


def literally(listening: Sequence[Listening]) -> list[tuple[int, ...]]:
    rows = [(one.listener, one.device, one.started_ms, one.ended_ms, int(one.is_live)) for one in listening]
    with connection.cursor() as cursor:
        values = ", ".join(str(row) for row in rows)
        cursor.execute(LITERAL.replace("{rows}", values))
        return [tuple(int(value) for value in row) for row in cursor.fetchall()]


def ours(listening: Sequence[Listening]) -> list[tuple[int, ...]]:
    return [
        (one.started_ms, one.ended_ms, one.live_ms, one.on_demand_ms, one.played_ms, one.listener, one.device)
        for one in visit_sessions(listening, gap_ms=300 * S)
        if one.played_ms > 30 * S
    ]


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_overlaps_we_agree_with_openbroadcasts_sql_row_for_row(seed):
    chance = random.Random(seed)
    listening = []
    for listener, device in itertools.product(range(1, 6), range(2)):
        second = 0
        for _ in range(30):
            second += chance.choice([0, 1, 299, 300, 301, 900])
            length = chance.choice([1, 29, 30, 31, 400])
            listening.append(
                Listening(
                    listener=listener,
                    device=device,
                    started_ms=second * S,
                    ended_ms=(second + length) * S,
                    is_live=chance.random() < 0.5,
                )
            )
            second += length
    found = ours(listening)
    assert len(found) > 20
    assert found == literally(listening)


def test_where_a_long_event_covers_short_ones_the_literal_sql_splits_and_we_do_not():
    listening = [
        Listening(listener=1, device=0, started_ms=start * S, ended_ms=end * S, is_live=True)
        for start, end in ((0, 1000), (100, 200), (600, 700))
    ]
    assert [(start // S, end // S, played // S) for start, end, _, _, played, _, _ in ours(listening)] == [
        (0, 1000, 1000)
    ]
    assert [(start // S, end // S) for start, end, *_ in literally(listening)] == [(0, 1000), (600, 700)]


# Live listening ----------------------------------------------------------------------------------------


PLAYER_SETTINGS = {
    **SETTINGS,
    "SOURCES": {**SETTINGS["SOURCES"], "web": {"backend": "player_events"}},
    "STREAMS": {**SETTINGS["STREAMS"], "only-web": {"source": "web", "station": 1}},
    "PLAYER": {"enabled": True},
}


@pytest.fixture
def counted(settings, stream) -> Stream:
    """A stream that players count, beside one that Icecast counts."""
    settings.AIRCOX_LISTEN_STATS = PLAYER_SETTINGS
    assert conf.get().streams["only-web"].source == "web"
    return Stream.objects.create(slug="only-web", station_id=1, source="web")


def drain(seconds: float) -> None:
    source = registry.source(conf.get(), "web")
    report = inbox.report(source, {}, now_ms=at(seconds))
    if report is not None:
        ingest.store(report, now_ms=at(seconds))


def test_players_that_are_a_streams_source_become_sessions(counted):
    page = Page(stream=counted)
    page.tell("playing", 0)
    look(1)
    drain(1)
    assert Session.objects.get().is_open
    page.tell("heartbeat", 30)
    page.tell("paused", 50)
    look(51)
    drain(51)
    session = Session.objects.get()
    assert (session.stream, session.listener, session.played_ms, session.is_open) == (counted, ANNA, 50 * S, False)
    assert (to_ms(session.started), session.source, session.country, session.app) == (at(0), "web", "BE", "Firefox")
    page.tell("playing", 100)
    page.tell("paused", 160)
    look(161)
    drain(161)
    session = Session.objects.get()
    assert (session.played_ms, session.parts) == (110 * S, [[0, 50 * S], [100 * S, 160 * S]])


def test_told_again_it_is_the_same_session(counted):
    page = Page(stream=counted)
    page.tell("playing", 0)
    page.tell("paused", 70)
    look(71)
    drain(71)
    PlayerEvent.objects.update(is_fresh=True)
    look(72)
    drain(72)
    assert Connection.objects.count() == 1
    assert Session.objects.get().played_ms == 70 * S


def test_an_abandoned_player_ends_its_session_where_it_was_last_heard(counted):
    page = Page(stream=counted)
    page.tell("playing", 0)
    page.tell("heartbeat", 30)
    look(31)
    drain(31)
    look(200)
    drain(200)
    session = Session.objects.get()
    assert (session.played_ms, session.is_open) == (30 * S, False)


def test_a_stream_that_another_source_counts_is_not_counted_twice(counted, stream):
    page = Page(stream=stream)
    page.tell("playing", 0)
    page.tell("paused", 70)
    look(71)
    assert not Inbox.objects.exists()
    assert sessions() == [(ANNA, 0, 70, 70, 0, 70, False)]


def test_recordings_never_become_sessions_of_a_stream(counted):
    page = Page(stream=counted)
    page.tell("playing", 0, position=0)
    page.tell("paused", 70, position=70)
    look(71)
    assert not Inbox.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_collector_hears_players_and_counts_them_in_one_step(counted):
    page = Page(stream=counted)
    page.tell("playing", 0)
    collector = Collector(sources={"web": registry.source(conf.get(), "web")}, onair=aircox.log())
    try:
        collector.step(now_ms=at(1))
    finally:
        collector.close()
    assert Session.objects.get().is_open
    assert PlayerSession.objects.get().is_open


@pytest.mark.django_db(transaction=True)
def test_the_collector_comes_back_at_once_for_what_is_left(counted, monkeypatch):
    monkeypatch.setattr(players, "BATCH", 2)
    page = Page(stream=counted)
    for second in range(5):
        page.tell("heartbeat", second)
    collector = Collector(sources={}, onair=aircox.log())
    try:
        for _ in range(3):
            collector.step(now_ms=at(5))
    finally:
        collector.close()
    assert not PlayerEvent.objects.filter(is_fresh=True).exists()


def test_players_as_a_source_without_players_that_are_heard_are_refused():
    with pytest.raises(ConfigurationError, match="Set PLAYER to"):
        conf.read({**PLAYER_SETTINGS, "PLAYER": {}})


# Forgetting ---------------------------------------------------------------------------------------------


def test_old_events_go_and_what_was_made_of_them_stays(stream):
    old, new = Page(stream=stream), Page(BELA, stream=stream)
    old.tell("playing", 0, position=0)
    old.tell("paused", 100, position=100)
    new.tell("playing", 5 * HOUR / S)
    new.tell("paused", 5 * HOUR / S + 60)
    look(6 * HOUR / S)
    before = everything()[1:]
    limits = {"events_before_ms": at(0) + 4 * HOUR, "sessions_before_ms": at(0) - DAY, "now_ms": at(0) + 3 * DAY}
    assert players.waiting_to_be_pruned(**limits) == (2, 0)
    assert players.prune(**limits) == (2, 0)
    assert everything()[1:] == before
    assert {event.listener for event in PlayerEvent.objects.all()} == {BELA}
    assert PlayerVisit.objects.get().listener == BELA


def test_a_listeners_events_go_together(stream):
    for page, start in ((Page(stream=stream), 0), (Page(stream=stream), 5 * HOUR / S)):
        page.tell("playing", start)
        page.tell("paused", start + 60)
    look(6 * HOUR / S)
    limits = {"events_before_ms": at(0) + 4 * HOUR, "sessions_before_ms": at(0) - DAY, "now_ms": at(0) + 3 * DAY}
    assert players.prune(**limits) == (0, 0)
    assert PlayerEvent.objects.count() == 4
    # A visit may still be told of: kept although the settings say otherwise.
    early = {**limits, "events_before_ms": at(0) + DAY, "now_ms": at(0) + DAY}
    assert players.prune(**early) == (0, 0)


def test_what_nobody_has_looked_at_is_kept(stream):
    Page(stream=stream).tell("playing", 0)
    players.prune(events_before_ms=at(0) + DAY, sessions_before_ms=at(0) - DAY, now_ms=at(0) + 3 * DAY)
    assert PlayerEvent.objects.count() == 1


def test_old_plays_are_nobodys_and_their_figures_stay(stream):
    page = Page(stream=stream)
    page.tell("playing", 0, position=0)
    page.tell("paused", 60, position=60)
    look(61)
    limits = {"events_before_ms": at(0) + DAY, "sessions_before_ms": at(0) + DAY, "now_ms": at(0) + 3 * DAY}
    assert players.waiting_to_be_pruned(**limits) == (2, 2)
    assert players.prune(**limits) == (2, 2)
    play, session = RecordingPlay.objects.get(), PlayerSession.objects.get()
    assert (play.listener, play.country, play.app, play.played_ms) == (None, "", "", 60 * S)
    assert (session.listener, session.on_demand_ms) == (None, 60 * S)
    assert players.prune(**limits) == (0, 0)
