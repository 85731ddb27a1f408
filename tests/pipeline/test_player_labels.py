"""Labels of listening on demand, put on and taken off: the figures of recordings follow."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.models import (
    LabelChange,
    PlayerEvent,
    PlayerSession,
    PlayerVisit,
    RecordingPlay,
    Ruling,
    Session,
    StaleWindow,
    Stream,
)
from aircox_listen_stats.pipeline import labels, players, retention
from aircox_listen_stats.reports import episode, on_demand, status

from .conftest import HOUR, SETTINGS, S, at
from .test_labels import label
from .test_players import ANNA, BELA, DAY, Page, look
from .test_rollup import airing, session

pytestmark = pytest.mark.django_db

EPISODE = 40
KINDS = (RecordingPlay, PlayerSession, PlayerVisit)


def hear(page: Page, start: float = 0, seconds: float = 60) -> None:
    page.tell("playing", start, position=0)
    page.tell("paused", start + seconds, position=seconds)


def told(listener: int | None = ANNA) -> set[tuple[Any, ...]]:
    """The labels of all that is made of what one listener's players told: one, where they agree."""
    names = ("exclusion", "rule", "told_exclusion", "told_rule")
    return {row for kind in KINDS for row in kind.objects.filter(listener=listener).values_list(*names)}


def counted() -> tuple[int, float]:
    """Plays and hours on demand of the episode, as its page shows them."""
    lines = on_demand.of_episode(EPISODE)
    return (lines[0].plays or 0, round((lines[0].listening_hours or 0) * 3600)) if lines else (0, 0)


def in_player(seconds: float, settings: Any) -> int:
    """The sessions in the player that the page of the state shows."""
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {"enabled": True}}
    line = status.status(conf.get(), now=from_ms(at(seconds))).players
    assert line is not None
    return line.sessions


def test_a_play_is_labelled_and_undone_and_the_figures_on_demand_follow(db: None, settings: Any) -> None:
    """A bot that was none counts once a ruling says so, and no more once that is revoked; nothing of it stays."""
    hear(Page(exclusion="bot", rule="crawlerdetect"))
    hear(Page(BELA), seconds=80)
    look(200)
    assert (counted(), in_player(200, settings)) == ((1, 80), 1)
    out = label("--as", "counted", "--rule", "crawlerdetect", "--why", "A speaker.", "--by", "Ada")
    assert "0 sessions, 1 plays of recordings and 1 sessions in the web player have another label" in out
    assert "bot (crawlerdetect) → counted (ruling" in out
    ruling = Ruling.objects.get()
    assert told() == {("", f"ruling {ruling.pk}", "bot", "crawlerdetect")}
    assert told(BELA) == {("", "", None, None)}
    assert (counted(), in_player(200, settings)) == ((2, 140), 2)
    label("--undo", str(ruling.pk), "--why", "A crawler after all.", "--by", "Ben")
    assert told() == {("bot", "crawlerdetect", None, None)}
    assert (counted(), in_player(200, settings)) == ((1, 80), 1)
    name = f"ruling {ruling.pk}"
    assert [(one.sessions, one.player_labels) for one in LabelChange.objects.order_by("pk")] == [
        (0, [[what, "bot", "crawlerdetect", "", name, 1] for what in ("play", "session in the player")]),
        (0, [[what, "", name, "bot", "crawlerdetect", 1] for what in ("play", "session in the player")]),
    ]


def test_the_totals_of_an_episode_follow_too(db: None) -> None:
    def figures() -> tuple[int | None, float | None]:
        settings = conf.get()
        found = episode.of_airing(one, settings.rules(), settings, now=from_ms(at(2 * HOUR / S)))
        assert found is not None
        return found.plays, found.on_demand_hours

    one = airing(0, 3600, program_id=12, episode_id=EPISODE)
    hear(Page())
    hear(Page(BELA))
    look(200)
    assert figures() == (2, pytest.approx(2 / 60))
    label("--as", "staff", "--play", str(RecordingPlay.objects.get(listener=ANNA).pk), "--why", "Ourselves.")
    assert figures() == (1, pytest.approx(1 / 60))


def test_a_ruling_holds_for_what_players_tell_later_and_for_what_is_derived_again(db: None) -> None:
    page = Page()
    hear(page)
    look(61)
    label("--as", "staff", "--app", "Firefox", "--why", "The studio's machines.")
    ruled = {("staff", f"ruling {Ruling.objects.get().pk}", "", "")}
    assert told() == ruled
    page.tell("playing", 70, position=60)
    page.tell("paused", 90, position=80)
    hear(Page(BELA))
    look(91)
    assert told() == told(BELA) == ruled
    assert {play.played_ms for play in RecordingPlay.objects.all()} == {80 * S, 60 * S}
    players.rebuild(at(-HOUR / S), at(HOUR / S), now_ms=at(300))
    assert told() == told(BELA) == ruled
    label("--undo", str(Ruling.objects.get().pk), "--why", "They listen.")
    players.rebuild(at(-HOUR / S), at(HOUR / S), now_ms=at(300))
    assert told() == told(BELA) == {("", "", None, None)}


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (["--app", "Firefox"], {ANNA}),
        (["--taken-for", "bot"], {BELA}),
        (["--rule", "crawlerdetect"], {BELA}),
        (["--rule", "crawlerdetect", "--app", "Firefox"], set()),
        (["--app", "Firefox", "--to", "2026-11-22T09:00Z"], set()),
        (["--app", "Firefox", "--from", "2026-11-22T10:00:30Z", "--to", "2026-11-22T10:00:40Z"], {ANNA}),
        (["--app", "Firefox", "--from", "2026-11-22T11:00Z"], set()),
        (["--app", "Firefox", "--stream", "live"], set()),
    ],
)
def test_it_is_about_what_it_names_and_a_recording_is_on_no_stream(
    stream: Stream, options: list[str], meant: set[int]
) -> None:
    hear(Page())
    hear(Page(BELA, app="wget", exclusion="bot", rule="crawlerdetect"))
    look(61)
    said = label("--as", "monitor", *options, "--why", "x", "--dry-run")
    assert said.startswith("0 sessions, 1 plays" if meant else "0 sessions are meant")
    assert not Ruling.objects.exists()
    label("--as", "monitor", *options, "--why", "x")
    for kind in KINDS:
        assert set(kind.objects.filter(exclusion="monitor").values_list("listener", flat=True)) == meant


def test_one_listener_alone_is_meant_by_a_play_on_streams_too(stream: Stream) -> None:
    for start in (0, 600):
        hear(Page(), start)
    hear(Page(BELA))
    look(700)
    session(stream, 0, 600, listener=ANNA)
    session(stream, 0, 600, listener=BELA)
    one = RecordingPlay.objects.filter(listener=ANNA).first()
    assert one is not None
    options = ["--as", "staff", "--play", str(one.pk), "--why", "The janitor."]
    assert label(*options, "--dry-run").startswith("1 sessions, 2 plays of recordings and 2 sessions in the web player")
    label(*options)
    for kind in (*KINDS, Session):
        assert set(kind.objects.filter(exclusion="staff").values_list("listener", flat=True)) == {ANNA}
    assert str(ANNA) not in label().replace("2026-11", "")


def test_what_makes_no_sense_is_refused(db: None) -> None:
    hear(Page())
    look(61)
    RecordingPlay.objects.update(listener=None)
    number = str(RecordingPlay.objects.get().pk)
    for play, says in ((number, "is forgotten"), ("99999", "no play 99999")):
        with pytest.raises(CommandError, match=says):
            label("--as", "staff", "--play", play, "--why", "x")
    with pytest.raises(CommandError, match="not by both"):
        label("--as", "staff", "--play", "1", "--session", "1", "--why", "x")
    assert not Ruling.objects.exists()


def test_a_preview_tells_of_plays_and_writes_nothing(db: None) -> None:
    hear(Page())
    look(61)
    said = label("--as", "staff", "--app", "Firefox", "--why", "x", "--dry-run")
    assert "In the web player 1 plays of recordings and 1 sessions in the web player would count or no longer" in said
    assert told() == {("", "", None, None)}
    label("--as", "staff", "--app", "Firefox", "--why", "x")
    number = str(Ruling.objects.get().pk)
    assert "In the web player 1 plays" in label("--undo", number, "--why", "x", "--dry-run")
    assert told() == {("staff", f"ruling {number}", "", "")}
    assert not StaleWindow.objects.exists()  # no figure of a diffusion is made of it


def test_whoever_was_killed_lays_rulings_again(db: None) -> None:
    hear(Page())
    look(61)
    labels.store(Ruling(app="Firefox", exclusion="bot", reason="x"))
    assert label("--again").startswith("0 sessions, 1 plays of recordings and 1 sessions in the web player")
    assert {one[0] for one in told()} == {"bot"}
    assert label("--again").startswith("0 sessions labelled")


def test_more_rows_than_one_transaction_takes_are_all_labelled(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from aircox_listen_stats.pipeline import player_labels

    monkeypatch.setattr(player_labels, "BATCH", 2)
    for listener in range(1, 6):
        hear(Page(listener))
    look(61)
    assert labels.lay(labels.make(Ruling(app="Firefox", exclusion="bot", reason="x")).ruling) == labels.Laid()
    for kind in KINDS:
        assert kind.objects.filter(exclusion="bot").count() == 5


# Once it is forgotten who it was -------------------------------------------------------------------------


def forget(now_ms: int) -> None:
    players.prune(events_before_ms=now_ms - 2 * DAY, sessions_before_ms=now_ms - DAY, now_ms=now_ms)
    assert not PlayerEvent.objects.exists()
    assert {play.listener for play in RecordingPlay.objects.all()} == {None}


@pytest.mark.parametrize("about", [{"app": "Firefox"}, {"listener": ANNA}])
def test_what_is_nobodys_keeps_its_label_and_its_ruling_can_still_be_undone(db: None, about: dict[str, Any]) -> None:
    hear(Page())
    look(61)
    ruling = Ruling(exclusion="staff", reason="x", **about)
    labels.make(ruling)
    forget(at(0) + 4 * DAY)
    other = Ruling(told_rule="crawlerdetect", exclusion="", reason="x")
    labels.make(other)
    labels.lay(ruling)
    assert told(None) == {("staff", f"ruling {ruling.pk}", "", "")}
    assert counted() == (0, 0)
    labels.revoke(ruling, by="", reason="y")
    assert told(None) == {("", "", None, None)}
    assert counted() == (1, 60)


def test_a_ruling_that_goes_with_its_key_leaves_its_labels(db: None, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 1}
    hear(Page())
    look(61)
    ruling = Ruling(listener=ANNA, exclusion="staff", reason="x")
    labels.make(ruling, now_ms=at(100))
    forget(at(0) + 4 * DAY)
    assert retention.prune(now_ms=at(0) + 40 * DAY).rulings == 1
    assert not Ruling.objects.exists()
    assert told(None) == {("staff", f"ruling {ruling.pk}", None, None)}
    passing = Ruling(told_exclusion="staff", exclusion="", reason="x")
    labels.make(passing)
    assert counted() == (1, 60)
    labels.revoke(passing, by="", reason="y")
    assert told(None) == {("staff", f"ruling {ruling.pk}", None, None)}


# At once ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_ruling_that_is_made_while_players_are_derived_misses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector has asked for the rulings already, and stores its plays after they were looked for."""
    hear(Page())
    asked, made = threading.Event(), threading.Event()
    run = players._Refresh.run

    def slowly(self: Any) -> int:
        asked.set()
        assert made.wait(timeout=30)
        time.sleep(0.3)  # the ruling's turn, if it would take it
        return run(self)

    monkeypatch.setattr(players._Refresh, "run", slowly)

    def derive() -> None:
        try:
            look(61)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        deriving = threads.submit(derive)
        assert asked.wait(timeout=30)
        made.set()
        labels.make(Ruling(app="Firefox", exclusion="staff", reason="x"), now_ms=at(62))
        deriving.result(timeout=30)
    assert {one[0] for one in told()} == {"staff"}
