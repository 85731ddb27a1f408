"""A second source that hears a stream beside its own one: compared with it, filling its outages in, never counted."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from aircox_listen_stats import conf, doctor
from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Audience, Coverage, Cume, DayShare, QuarterHour, Session, StaleWindow, Stream
from aircox_listen_stats.pipeline import (
    cumes,
    live,
    media,
    quarters,
    rebuild,
    rollup,
    shares,
    streams,
    timeline,
    verify,
)
from aircox_listen_stats.pipeline.collect import Collector
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.querysets import NO_STATION
from aircox_listen_stats.reports import status
from aircox_listen_stats.sources import registry
from aircox_listen_stats.sources.base import Census, Heard, Report

from .conftest import HOUR, SETTINGS, T0, S, at, heard, poll
from .scripted import OneStation
from .test_players import Page, drain, look
from .test_rollup import LATER, airing

pytestmark = pytest.mark.django_db

AZURA = {"backend": "azuracast", "url": "http://127.0.0.1:9", "station": "1", "api_key": "x"}
BESIDE: dict[str, Any] = {
    **SETTINGS,
    "SOURCES": {**SETTINGS["SOURCES"], "azura": AZURA},
    "STREAMS": {
        "other": {"source": "azura", "mount": "/live.mp3", "beside": "live"},
        **SETTINGS["STREAMS"],
    },
}
EVERY = 150
PEOPLE = [(1, 0, 1500), (2, 300, 3300), (3, 600, 2400), (4, 1800, 3000), (5, 2460, 2700), (6, 120, 3500)]
"""Who, from and to when, in seconds from ten o'clock."""
OUTAGE = (2100, 3100)
"""The own source heard nothing in these seconds."""


@pytest.fixture(autouse=True)
def here(settings: Any, station_settings: None, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.AIRCOX_LISTEN_STATS = BESIDE
    monkeypatch.setattr(live.aircox, "log", OneStation)
    streams.sync(streams.station_by(OneStation()))


def polled(*, outage: tuple[int, int] = (0, 0)) -> None:
    """The own source's polls, but those of the outage."""
    for second in range(EVERY, 3601, EVERY):
        if not outage[0] <= second < outage[1]:
            there = [heard(who, began, second) for who, began, ended in PEOPLE if began <= second < ended]
            store(poll(second, *there, every=EVERY), now_ms=at(second))


def polled_beside(until: int = 3600) -> None:
    """The other source's polls: its sockets have other numbers, and its starts are a second late."""
    for second in range(EVERY, until + 1, EVERY):
        there = [
            heard(who + 100, began + 1, second, who=who, stream="other")
            for who, began, ended in PEOPLE
            if began < second < ended
        ]
        report = Report(
            source="azura",
            observations=there,
            census=Census(streams=frozenset({"other"}), at_ms=at(second)),
            heard=[Heard(stream="other", started_ms=at(second - EVERY), ended_ms=at(second))],
        )
        store(report, now_ms=at(second))


def run(command: str, *options: str) -> str:
    out = io.StringIO()
    call_command(command, *options, stdout=out)
    return out.getvalue()


HOURS = ("live", "2026-11-22T10:00Z", "2026-11-22T11:00Z")


def compared(*options: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run("listen_stats_reconcile", *HOURS, *options, "--csv", "-"))))


def rows(model: Any, *without: str) -> list[str]:
    """All that is stored of these figures."""
    return sorted(
        str({name: value for name, value in row.items() if name not in ("id", "computed", *without)})
        for row in model.objects.values()
    )


def figures() -> list[Any]:
    """Every figure of the station."""
    names = rollup.every_rule_set()
    whole = (1, T0 - HOUR, T0 + 2 * HOUR)
    rollup.refresh(*whole, now_ms=LATER, rule_sets=names)
    for keeper in (quarters, cumes, shares):
        keeper.refresh(*whole, now_ms=LATER, rule_sets=names)
    told = live.figures(1, now_ms=at(3601))
    return [
        rows(Audience, "airing_id", "version"), rows(QuarterHour, "version"), rows(Cume), rows(DayShare, "version"),
        told.listeners, [(one.slug, one.listeners) for one in told.streams],
    ]  # fmt: skip


# Never counted ---------------------------------------------------------------------------------------


def test_what_is_heard_beside_a_stream_is_in_no_figure_and_no_live_count() -> None:
    airing(0, 3600)
    polled()
    before = figures()
    assert before[0]
    StaleWindow.objects.all().delete()
    polled_beside(until=3000)  # and then it is down, which is no hole in the station's coverage
    assert Session.objects.filter(stream__slug="other").count() == len(PEOPLE)
    assert not StaleWindow.objects.exists()
    assert figures() == before
    assert set(QuarterHour.objects.values_list("station_id", flat=True)) == {1}


def test_the_collector_keeps_it_and_computes_nothing_for_it() -> None:
    collector = Collector(sources=registry.build(conf.get()), onair=OneStation(), clock=lambda: at(0))
    collector._sync_streams()
    assert Stream.objects.get(slug="other").station_id == NO_STATION
    assert collector._stations == [1]
    collector.close()


def test_a_rebuild_and_a_verification_are_of_stations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "refresh", lambda station_id, *args, **more: refreshed.append(station_id))
    refreshed: list[int] = []
    airing(0, 3600)
    polled()
    polled_beside()
    before = figures()
    beside = Session.objects.filter(stream__slug="other")
    beside.update(played_ms=1)
    rebuild.rebuild(None, T0, T0 + HOUR, now_ms=LATER)
    assert set(refreshed) == {1}
    assert min(beside.values_list("played_ms", flat=True)) > 1
    assert [one.differing for one in verify.verify(None, T0, T0 + HOUR, now_ms=LATER)] == [0]
    assert figures() == before


def test_an_import_and_an_export_of_every_stream_leave_it_out(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(
        b'192.0.2.7 - - [22/Nov/2026:10:54:40 +0000] "GET /live.mp3 HTTP/1.1" 200 50000 "-" "VLC/3.0.20" 120\n'
    )
    run("listen_stats_import", str(log))
    assert Session.objects.get().stream.slug == "live"
    Session.objects.all().delete()
    polled_beside()
    assert run("listen_stats_sessionlog", "2026-11-22", "2026-11-22").strip() == ""


def test_a_web_player_of_the_same_mount_is_one_of_the_stream_unless_it_is_said(settings: Any) -> None:
    address = "https://radio.example/live.mp3"
    assert media.medium_of(address, onair=OneStation(), now_ms=at(0))[0] == Stream.objects.get(slug="live").pk
    settings.AIRCOX_LISTEN_STATS = {**BESIDE, "PLAYER": {"enabled": True, "streams": {address: "other"}}}
    assert media.medium_of(address, onair=OneStation(), now_ms=at(0))[0] == Stream.objects.get(slug="other").pk


# Compared --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [(), ("--with", "azura"), ("--with", "other")])
def test_two_sources_that_are_no_logs_are_compared(named: tuple[str, ...]) -> None:
    polled()
    polled_beside()
    found = compared(*named)
    assert Counter((line["found"], line["why"]) for line in found) == {("both", "same whole"): len(PEOPLE)}
    table = run("listen_stats_reconcile", *HOURS, *named).splitlines()
    assert table[0].split() == ["here:", "ice", "there:", "azura"]
    assert "start and end alone" not in table[0]


def test_web_players_are_compared_with_the_server(settings: Any) -> None:
    """Under the settings that docs/reconcile.md shows."""
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "SOURCES": {**SETTINGS["SOURCES"], "web": {"backend": "player_events"}},
        "STREAMS": {**SETTINGS["STREAMS"], "live-web": {"source": "web", "beside": "live"}},
        "PLAYER": {"enabled": True, "streams": {"/live.mp3": "live-web"}},
    }
    web = streams.sync(streams.station_by(OneStation()))["live-web"]
    polled()
    page = Page(stream=web)
    page.tell("playing", 600)
    for second in range(630, 2400, 30):
        page.tell("heartbeat", second)
    page.tell("paused", 2400)
    look(2401)
    drain(2401)
    assert Session.objects.get(stream=web).source == "web"
    (both,) = (line for line in compared() if line["found"] == "both")
    assert both["start_one"][11:16] == both["start_other"][11:16] == "10:10"


def test_an_outage_of_either_is_named() -> None:
    polled(outage=OUTAGE)
    polled_beside(until=1740)
    found = Counter((line["found"], line["why"]) for line in compared())
    assert found[("other", "unobserved")] == 0
    assert found[("one", "unobserved")] >= 1


def test_without_a_second_source_or_with_two_one_is_to_be_named(settings: Any) -> None:
    several = {**BESIDE["STREAMS"], "third": {"source": "azura", "mount": "/third", "beside": "live"}}
    settings.AIRCOX_LISTEN_STATS = {**BESIDE, "STREAMS": several}
    with pytest.raises(CommandError, match=r"compared with several: other, third\. Name one: --with"):
        compared()
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    with pytest.raises(CommandError, match="Name one second source"):
        compared()


# Filling in ------------------------------------------------------------------------------------------


def test_an_outage_is_filled_in_from_it_and_given_back() -> None:
    polled(outage=OUTAGE)
    polled_beside()
    before, covered = rows(Session), rows(Coverage)
    hours = ("live", "2026-11-22T10:32Z", "2026-11-22T10:53Z")
    said = run("listen_stats_backfill", *hours, "--why", "The poll was down.")
    assert ", by azura:" in said
    counted = Session.objects.filter(stream__slug="live").counted()
    told = sorted(((to_ms(one.started) - T0) / S, (to_ms(one.ended) - T0) / S) for one in counted)
    assert len(told) == len(PEOPLE)
    for (started, ended), (_, began, left) in zip(told, sorted(PEOPLE, key=lambda one: one[1:]), strict=True):
        assert (started, ended) == (pytest.approx(began, abs=1), pytest.approx(left, abs=EVERY))
    assert Coverage.objects.filter(stream__slug="live").count() == 1
    run("listen_stats_backfill", "--undo", "back-fill 1", "--why", "x")
    Session.objects.filter(source="back-fill 1").delete()
    assert (rows(Session), rows(Coverage, "id")) == (before, covered)


# Settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"beside": "nope"}, "'beside'] is 'nope'; expected a stream that counts. Those that do: live"),
        ({"beside": "other"}, "expected a stream that counts"),
        ({"source": "ice"}, "which source 'ice' counts already"),
        ({"station": 1}, "counts for no station. Leave 'station' out"),
    ],
)
def test_settings_that_cannot_be_are_refused(entry: dict[str, Any], says: str) -> None:
    other = {**BESIDE["STREAMS"]["other"], **entry}
    with pytest.raises(ConfigurationError) as caught:
        conf.read({**BESIDE, "STREAMS": {**BESIDE["STREAMS"], "other": other}})
    assert says in str(caught.value)


COUNTS = {"source": "azura", "mount": "/live.mp3", "station": 1}


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        (BESIDE["STREAMS"]["other"], COUNTS, "was only compared until now: it is not heard"),
        (COUNTS, BESIDE["STREAMS"]["other"], "counted until now: it is not heard"),
    ],
)
def test_a_stream_does_not_become_one_that_counts_or_no_longer_counts(
    settings: Any, first: dict[str, Any], then: dict[str, Any], says: str
) -> None:
    """Else what it has told would count beside the same, or be gone."""
    Stream.objects.all().delete()
    for entry in (first, then):
        settings.AIRCOX_LISTEN_STATS = {**BESIDE, "STREAMS": {**SETTINGS["STREAMS"], "other": entry}}
        found = streams.sync(streams.station_by(OneStation()))
        assert ("other" in found) == (entry is first)
    row = Stream.objects.get(slug="other")
    assert (row.station_id, row.active) == (1 if first is COUNTS else NO_STATION, False)
    (finding,) = (one for one in doctor._streams(conf.get()) if one.subject == "stream other")
    assert says in finding.text


def test_the_page_of_the_state_shows_it_as_compared(admin_client: Client) -> None:
    lines = {one.slug: one.is_counted for one in status.status(conf.get(), now=from_ms(at(0))).streams}
    assert lines == {"live": True, "other": False}
    page = admin_client.get(reverse("listen_stats:status"), headers={"Accept-Language": "en"}).content.decode()
    assert page.count("compared, not counted") == 1
