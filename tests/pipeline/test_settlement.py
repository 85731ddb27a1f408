"""Settled figures: what changes them says when, why, who and from what to what; nothing else changes them."""

from __future__ import annotations

import getpass
from typing import Any

import pytest
from django.core.management import call_command

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.kernel.types import Why
from aircox_listen_stats.models import Airing, Audience, Ruling, Session, StaleWindow, Stream
from aircox_listen_stats.pipeline import causes, rollup
from aircox_listen_stats.pipeline.ingest import store

from .conftest import HOUR, MINUTE, SETTINGS, T0, at, heard, poll
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
    rollup.refresh(1, T0, T0 + HOUR, now_ms=LATER)
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
    rollup.refresh(1, T0, T0 + MINUTE, now_ms=LATER)
    assert note()["causes"] == [["late", "collector"]]


def test_what_changes_without_a_cause_is_said_so(settled: Airing, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "RULE_SETS": {"triton": {"minimum_seconds": 700}}}
    rollup.refresh(1, T0, T0 + MINUTE, now_ms=LATER)
    assert note()["causes"] == [["anew", "collector"]]
    assert note()["after"]["sessions"] == 0


def test_of_a_mail_address_only_the_name_is_noted() -> None:
    with causes.acting_as("ada@example.org"):
        assert causes.who() == "ada"
    assert causes.who() == causes.COLLECTOR
