"""Settled figures: what changes them says when, why, who and from what to what; nothing else changes them."""

from __future__ import annotations

import getpass
import itertools
import random
from typing import Any
from unittest import mock

import pytest
from aircox.models import Diffusion, Log, Program, Schedule, Sound
from django.core.management import call_command
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.kernel.types import Layer, Why
from aircox_listen_stats.models import (
    LONG_SESSION_MS,
    Airing,
    Audience,
    Connection,
    Coverage,
    LabelChange,
    Ruling,
    Session,
    StaleWindow,
    Stream,
)
from aircox_listen_stats.pipeline import causes, rebuild, retention, rollup, timeline
from aircox_listen_stats.pipeline.ingest import store
from tests.onair import test_timeline_rows as told
from tests.onair.studio import Studio
from tests.onair.test_timeline_rows import EIGHT, HOUR

from .conftest import HOUR as HOUR_MS
from .conftest import MINUTE as MINUTE_MS
from .conftest import SETTINGS, T0, at, heard, poll
from .test_labels import compute, label
from .test_rollup import LATER, airing, session

pytestmark = pytest.mark.django_db

ME = getpass.getuser()


def note() -> dict[str, Any]:
    """The last note of the one diffusion's figures."""
    return Audience.objects.get(rule_set="triton").changes[-1]


@pytest.fixture
def settled(stream: Stream) -> Airing:
    """A diffusion of an hour that two heard, settled."""
    one = airing(0, 3600)
    session(stream, 0, 600, app="Sonos")
    session(stream, 0, 600, app="VLC")
    rollup.refresh(1, T0, T0 + HOUR_MS, now_ms=LATER)
    row = Audience.objects.get()
    assert (row.settled, row.version, row.changes) == (True, 1, []), "from provisional to settled there is no note"
    return one


def test_late_input_is_noted_with_the_difference(stream: Stream, settled: Airing) -> None:
    store(poll(1800, heard(7, 1200, 1800, ended=True)), now_ms=at(1800))
    compute()
    assert note()["version"] == 2
    assert note()["at_ms"] == LATER
    assert note()["causes"] == [["late", "collector"]]
    assert (note()["before"]["sessions"], note()["after"]["sessions"]) == (2, 3)
    assert (note()["before"]["listening_ms"], note()["after"]["listening_ms"]) == (1_200_000, 1_800_000)
    assert note()["before"].keys() == note()["after"].keys()
    assert "at_end" not in note()["before"], "what did not change is not noted"
    assert note()["minutes"] == 10


def test_a_label_is_noted_with_the_command_and_who_gave_it(settled: Airing) -> None:
    label("--as", "monitor", "--app", "Sonos", "--why", "It plays in the lobby.")
    compute()
    assert note()["causes"] == [["label", f"command listen_stats_label by {ME}"]]
    label("--undo", str(Ruling.objects.get().pk), "--why", "People do hear it.", "--by", "Ada")
    compute()
    assert note()["causes"] == [["label", "command listen_stats_label by Ada"]]
    assert (note()["version"], note()["before"]["sessions"], note()["after"]["sessions"]) == (3, 1, 2)


def test_a_rebuild_is_noted_with_the_command(settled: Airing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: LATER)
    Session.objects.filter(app="VLC").delete()
    call_command("listen_stats_rebuild", "--from", "2026-11-22T09:00Z", "--to", "2026-11-22T12:00Z", verbosity=0)
    assert note()["causes"] == [["rebuild", f"command listen_stats_rebuild by {ME}"]]
    assert note()["after"]["sessions"] == 1


def test_several_causes_are_all_listed_and_those_of_other_hours_are_not(stream: Stream, settled: Airing) -> None:
    airing(7200, 10800, key="later")
    session(stream, 7200, 9000)
    rollup.refresh(1, at(7200), at(10800), now_ms=LATER)
    store(poll(1800, heard(7, 1200, 1800, ended=True)), now_ms=at(1800))
    label("--as", "monitor", "--app", "Sonos", "--why", "It plays in the lobby.")
    StaleWindow.objects.create(
        station_id=1,
        kind=StaleWindow.AUDIENCE,
        started=from_ms(at(7200)),
        ended=from_ms(at(7300)),
        why=Why.BACKFILL,
        who="ada",
    )
    session(stream, 7200, 9000)
    compute()
    of_first = Audience.objects.get(airing=settled).changes[-1]
    of_later = Audience.objects.get(airing__key="later").changes[-1]
    assert of_first["causes"] == [["late", "collector"], ["label", f"command listen_stats_label by {ME}"]]
    assert of_later["causes"] == [["backfill", "ada"]]


def test_a_refresh_that_comes_before_the_windows_are_worked_off_knows_the_cause_too(
    stream: Stream, settled: Airing
) -> None:
    store(poll(1800, heard(7, 1200, 1800, ended=True)), now_ms=at(1800))
    rollup.refresh(1, T0, T0 + MINUTE_MS, now_ms=LATER)
    assert note()["causes"] == [["late", "collector"]]


def test_what_changes_without_a_cause_is_said_so(settled: Airing, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("settings").AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "RULE_SETS": {"triton": {"minimum_seconds": 700}},
    }
    rollup.refresh(1, T0, T0 + MINUTE_MS, now_ms=LATER)
    assert note()["causes"] == [["anew", "collector"]]
    assert note()["after"]["sessions"] == 0


def test_of_a_mail_address_only_the_name_is_noted() -> None:
    with causes.acting_as("ada@example.org"):
        assert causes.who() == "ada"
    assert causes.who() == causes.COLLECTOR


# -- settled once


studio, evening = told.studio, told.evening
EIGHT_MS = to_ms(EIGHT)


def standing() -> list[dict[str, Any]]:
    """Every row of Audience, but for when it was computed."""
    found = Audience.objects.order_by("airing__key", "airing__layer", "rule_set").values()
    return [{name: value for name, value in row.items() if name != "computed"} for row in found]


def rebuilt(*bounds: int, now_ms: int) -> None:
    """Rebuilds from each bound to the next, the last first."""
    for start_ms, end_ms in reversed(list(itertools.pairwise(bounds))):
        rebuild.rebuild(None, start_ms, end_ms, now_ms=now_ms)


@pytest.fixture
def heard_evening(studio: Studio, evening: dict[str, Any]) -> int:
    """An evening of diffusions, sounds and tracks that a crowd heard, all settled; when that was."""
    stream = Stream.objects.create(slug="live", station_id=studio.station.pk, source="ice")
    Coverage.objects.create(stream=stream, started=EIGHT - HOUR, ended=EIGHT + 2 * HOUR)
    crowd(stream, random.Random(4), EIGHT_MS, 60 * MINUTE_MS)
    now_ms = EIGHT_MS + 10 * HOUR_MS
    rebuilt(EIGHT_MS - HOUR_MS, EIGHT_MS + 2 * HOUR_MS, now_ms=now_ms)
    rows = standing()
    assert len({row["airing_id"] for row in rows}) > 8
    assert {(row["settled"], row["version"]) for row in rows} == {(True, 1)}
    assert sum(row["listening_ms"] for row in rows) > 0
    return now_ms


def crowd(stream: Stream, chance: random.Random, start_ms: int, lasting_ms: int, count: int = 40) -> None:
    """Sessions that begin before, in and after the time; some of two parts, some excluded, some of one listener."""
    found = []
    for _ in range(count):
        begun = start_ms + chance.randrange(-lasting_ms // 4, lasting_ms)
        length = chance.choice([500, 30_000, 59_999, 60_000, 300_000, 2_000_000, 18_000_000]) + chance.randrange(1000)
        silent = sorted(chance.sample(range(1, length), 2)) if chance.random() < 0.3 else None
        found.append(
            Session(
                stream=stream,
                listener=chance.randrange(count // 2),
                started=from_ms(begun),
                ended=from_ms(begun + length),
                parts=silent and [[0, silent[0]], [silent[1], length]],
                played_ms=length - (silent[1] - silent[0] if silent else 0),
                is_long=length > LONG_SESSION_MS,
                exclusion=chance.choice(["", "", "", "bot"]),
                source="ice",
            )
        )
    chance.shuffle(found)
    Session.objects.bulk_create(found)


@pytest.mark.parametrize("loss", ["log", "plan", "schedules", "renamed", "everything"])
def test_what_aircox_loses_changes_no_settled_figure(
    studio: Studio, heard_evening: int, evening: dict[str, Any], loss: str
) -> None:
    """Its archiver deletes rows, a schedule takes its diffusions along, programs get other names."""
    before, names = standing(), set(Airing.objects.values_list("program_title", flat=True))
    if loss in ("log", "everything"):
        Log.objects.all().delete()
    if loss in ("plan", "everything"):
        Diffusion.objects.all().delete()
    if loss in ("schedules", "everything"):
        Schedule.objects.all().delete()
    if loss in ("renamed", "everything"):
        for program in Program.objects.all():
            program.title = f"Once {program.title}"
            program.save()
        assert names
    if loss == "everything":
        Sound.objects.all().delete()
    later_ms = heard_evening + 61 * 24 * HOUR_MS
    for now_ms in (heard_evening, later_ms):
        timeline.refresh(studio.station.pk, EIGHT_MS - HOUR_MS, EIGHT_MS + 2 * HOUR_MS, now_ms=now_ms)
        assert not StaleWindow.objects.filter(kind=StaleWindow.AUDIENCE).exists()
        rebuilt(EIGHT_MS - HOUR_MS, EIGHT_MS + 17 * MINUTE_MS, EIGHT_MS + 2 * HOUR_MS, now_ms=now_ms)
        assert standing() == before


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_rebuilt_in_any_pieces_and_after_the_sockets_went_the_figures_are_the_same(stream: Stream, seed: int) -> None:
    """Random polls of random sockets, random airings; settled, then rebuilt whole, twice, in pieces, and pruned.

    The airings stand as they were made: that a timeline without evidence stays is proved above.
    """
    as_it_is = mock.patch.object(timeline, "refresh", return_value=timeline.TimelineChange())
    with transaction.atomic(), as_it_is:
        chance = random.Random(seed)
        last = _live_through(chance)
        for number in range(chance.randrange(1, 8)):
            begun = chance.randrange(-300, last)
            airing(begun, begun + chance.randrange(1, 1500), key=f"a{number}", layer=chance.choice(list(Layer)))
        bounds = (T0 - HOUR_MS, T0 + 2 * HOUR_MS)
        rebuilt(*bounds, now_ms=LATER)
        before = standing()
        assert before
        assert all(row["settled"] and row["version"] == 1 for row in before)
        rebuilt(*bounds, now_ms=LATER)
        assert standing() == before
        cuts = sorted(chance.sample(range(bounds[0] + 1, bounds[1]), 3))
        rebuilt(bounds[0], *cuts, bounds[1], now_ms=LATER)
        assert standing() == before
        assert retention.prune(now_ms=LATER + 3 * 24 * HOUR_MS).connections > 0
        assert not Connection.objects.exists()
        rebuilt(bounds[0], *cuts, bounds[1], now_ms=LATER + 3 * 24 * HOUR_MS)
        assert standing() == before
        Audience.objects.all().delete()
        rebuilt(*bounds, now_ms=LATER + 3 * 24 * HOUR_MS)
        fresh = standing()
        for row in (*fresh, *before):
            del row["id"]
        assert fresh == before
        transaction.set_rollback(True)


def _live_through(chance: random.Random) -> int:
    """Polls every minute of sockets that come and go, everybody gone in the end; the last poll's second."""
    sockets = [(number, chance.randrange(0, 1800), chance.choice([20, 90, 400, 1500])) for number in range(1, 13)]
    last = max(start + length for _, start, length in sockets) + 60
    last += -last % 60
    for second in range(60, last + 1, 60):
        there = [
            heard(number, start, second, who=1 + number % 5)
            for number, start, length in sockets
            if start <= second < start + length
        ]
        chance.shuffle(there)
        store(poll(second, *there), now_ms=at(second))
    return last


# -- exclusions and quarantine


def figures_now() -> list[dict[str, Any]]:
    kept = ("version", "changes", "id")
    return [{name: value for name, value in row.items() if name not in kept} for row in standing()]


@pytest.mark.parametrize("as_", ["staff", "quarantine"])
def test_what_a_ruling_would_do_is_what_it_does_and_undone_the_very_same_figures_stand(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, as_: str
) -> None:
    """Before and after are told first, to the figure; set aside, then back, nothing is left but the trail."""
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: LATER)
    first, second = airing(0, 1800, title="Early"), airing(1800, 3600, title="Late")
    airing(5400, 7200, title="Untouched")
    for start, end, app in ((0, 1000, "VLC"), (100, 2000, "Bot"), (500, 1500, "VLC"), (5400, 6000, "VLC")):
        session(stream, start, end, app=app)
    rollup.refresh(1, T0, T0 + 3 * HOUR_MS, now_ms=LATER)
    before = figures_now()
    ruling = ("--as", as_, "--app", "Bot", "--why", "An address that tunes in all day.")
    said = label(*ruling, "--dry-run")
    assert "1 sessions would count or no longer count; the figures of 2 diffusions would change." in said
    assert f"{first}: listening_ms 3700000 → 2000000, sessions 3 → 2, listeners 3 → 2, peak 3 → 2" in said
    assert f"{second}: listening_ms 200000 → 0, sessions 1 → 0, listeners 1 → 0, peak 1 → 0" in said
    assert not Ruling.objects.exists()
    assert figures_now() == before
    label(*ruling)
    compute()
    after = Audience.objects.get(airing=first)
    assert (after.listening_ms, after.sessions, after.listeners, after.peak) == (2_000_000, 2, 2, 2)
    number = Ruling.objects.get().pk
    assert Session.objects.get(app="Bot").exclusion == as_
    said = label("--undo", str(number), "--dry-run", "--why", "x")
    assert f"{first}: listening_ms 2000000 → 3700000, sessions 2 → 3, listeners 2 → 3, peak 2 → 3" in said
    assert Ruling.objects.get().revoked is None
    label("--undo", str(number), "--why", "A library's reading room.")
    compute()
    assert figures_now() == before
    assert Audience.objects.get(airing=first).version == 3
    assert Audience.objects.get(airing__title="Untouched").version == 1
    trail = LabelChange.objects.order_by("pk").values_list("reason", "is_revocation", "labels")
    assert list(trail) == [
        ("An address that tunes in all day.", False, [["", "", as_, f"ruling {number}", 1]]),
        ("A library's reading room.", True, [[as_, f"ruling {number}", "", "", 1]]),
    ]
