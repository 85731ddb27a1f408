"""What is stored is held against what would be derived; nothing is written, and a rebuild puts it right."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F, Model

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.models import (
    Audience,
    Connection,
    PlayerSession,
    RecordingPlay,
    Session,
    StaleWindow,
    Stream,
)
from aircox_listen_stats.pipeline import rollup
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.pipeline.verify import VerifiedDay, verify

from .conftest import HOUR, T0, at, heard, told
from .test_players import Page, look
from .test_rollup import airing

pytestmark = pytest.mark.django_db

LATER = at(6 * 3600)
FROM, TO = "2026-11-22T04:00", "2026-11-22T20:00"


@pytest.fixture
def evening(stream: Stream) -> Stream:
    """Three sockets that are two sessions, under a settled diffusion and one that runs; a player that came and went."""
    store(
        told(
            heard(1, 0, 600, ended=True, who=1),
            heard(2, 700, 900, ended=True, who=1),
            heard(3, 60, 1200, ended=True, who=2),
        ),
        now_ms=at(1300),
    )
    airing(0, 1800)
    airing(5.9 * 3600, 7 * 3600)
    rollup.refresh(1, T0, LATER, now_ms=LATER, rule_sets=rollup.every_rule_set())
    page = Page()
    page.tell("playing", 0, position=0)
    page.tell("seek", 20, position=300)
    page.tell("paused", 50, position=330)
    page.tell("playing", 60, position=590)
    look(600)
    StaleWindow.objects.all().delete()
    return stream


def day() -> VerifiedDay:
    (found,) = verify(1, T0 - 2 * HOUR, LATER, now_ms=LATER)
    return found


def rows_of(*kinds: type[Model]) -> list[Any]:
    return [list(kind.objects.order_by("pk").values()) for kind in kinds]


def test_where_nothing_is_wrong_nothing_differs_and_nothing_is_written(evening: Stream) -> None:
    tables = (Session, Connection, Audience, RecordingPlay, PlayerSession, StaleWindow)
    before = rows_of(*tables)
    found = day()
    assert rows_of(*tables) == before
    assert found.differing == 0
    assert found.sessions.derived == Session.objects.count() == 2
    assert found.figures.derived == Audience.objects.filter(settled=True).count() == len(rollup.every_rule_set())
    assert (found.plays.derived, found.player_sessions.derived) == (1, 1)


def test_it_tells_how_the_events_of_players_ended(evening: Stream) -> None:
    """Four events of which three play, none with an end: three end with the next one, the last with its recording."""
    told_of = day().player_events
    assert {name: count for name, count in told_of.items() if count} == {
        "events": 4,
        "open_playing": 3,
        "by_next": 3,
        "by_duration": 1,
    }


@pytest.mark.parametrize(
    ("kind", "change", "part"),
    [
        (Session, {"played_ms": F("played_ms") + 1}, "sessions"),
        (Session, {"exclusion": "bot"}, "sessions"),
        (Audience, {"listening_ms": F("listening_ms") - 1}, "figures"),
        (Audience, {"curve": [1.0]}, "figures"),
        (RecordingPlay, {"played_ms": F("played_ms") + 1}, "plays"),
        (RecordingPlay, {"sections": [[0, 1]]}, "plays"),
        (PlayerSession, {"on_demand_ms": F("on_demand_ms") - 1}, "player_sessions"),
    ],
)
def test_what_somebody_changed_is_found_and_a_rebuild_puts_it_right(
    evening: Stream, monkeypatch: pytest.MonkeyPatch, kind: Any, change: dict[str, Any], part: str
) -> None:
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: LATER)
    first = kind.objects.filter(settled=True) if kind is Audience else kind.objects.all()
    assert kind.objects.filter(pk=first.order_by("pk")[0].pk).update(**change)
    assert getattr(day(), part).differing == 1
    with pytest.raises(CommandError, match="stored otherwise"):
        call_command("listen_stats_verify", "--from", FROM, "--to", TO, stdout=StringIO())
    call_command("listen_stats_rebuild", "--from", FROM, "--to", TO, stdout=StringIO(), stderr=StringIO())
    assert day().differing == 0


def test_a_session_without_sockets_and_a_provisional_figure_are_not_asked(evening: Stream) -> None:
    Audience.objects.filter(settled=False).update(listening_ms=0)
    Connection.objects.all().delete()
    found = day()
    assert (found.differing, found.sessions.derived) == (0, 0)


def test_who_plays_still_is_not_asked(evening: Stream) -> None:
    page = Page(listener=33)
    page.tell("playing", LATER / 1000 - T0 / 1000 - 10, position=0)
    look((LATER - T0) / 1000)
    RecordingPlay.objects.filter(listener=33).update(played_ms=1)
    assert (day().differing, day().plays.derived) == (0, 1)


def test_the_command_tells_each_broadcast_day(evening: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: LATER)
    StaleWindow.objects.create(
        station_id=1, kind=StaleWindow.AUDIENCE, started=from_ms(at(0)), ended=from_ms(at(60)), why="late", who="x"
    )
    out = StringIO()
    call_command("listen_stats_verify", "--from", "2026-11-21T12:00", "--to", TO, stdout=out)
    yesterday, today = out.getvalue().splitlines()
    assert yesterday.startswith("2026-11-21 12:00  sessions 0; settled figures 0;")
    assert today == (
        "2026-11-22 04:00  sessions 2; settled figures 5; plays 1; sessions in the player 1; player events 4 "
        "(played without an end 3, ended by the next 3, by the recording's length 1); 1 windows wait"
    )


def test_a_window_that_makes_no_sense_is_refused(stream: Stream) -> None:
    with pytest.raises(CommandError, match="is not later than"):
        call_command("listen_stats_verify", "--from", "2026-11-22", "--to", "2026-11-22")
