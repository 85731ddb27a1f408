"""From a polled server to the figures: relays do not count, edges add up, totals are shown as totals."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from aircox_listen_stats import conf, doctor
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Connection, Coverage, Session, SourceState, Stream
from aircox_listen_stats.pipeline import live, recognise, rollup
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.reports import status
from aircox_listen_stats.sources import registry
from aircox_listen_stats.sources.base import Heard, Report
from tests.sources.test_icecast import PretendIcecast
from tests.sources.test_icecast_edges import PretendEdges

from .conftest import HOUR, SETTINGS, S, at, heard, poll
from .scripted import OneStation
from .test_rollup import airing

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def station(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.aircox, "log", OneStation)


def of(settings: Any, source: dict[str, Any], **more: Any) -> Any:
    """The source ``ice`` of these settings, as the collector builds it."""

    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "SOURCES": {"ice": source}, **more}
    recognise.forget()
    return registry.source(conf.get(), "ice")


def totals(seconds: float, **counts: int) -> Report:
    spans = [Heard(stream=slug, started_ms=at(seconds - 15), ended_ms=at(seconds)) for slug in counts]
    return Report(source="ice", totals=counts, heard=spans, cursor={"at_ms": at(seconds)})


# Relays and edges ----------------------------------------------------------------------------------------


def test_a_relay_is_no_listener_and_its_listeners_are_heard_at_the_edge(stream: Stream, settings: Any) -> None:
    """The master's only client is the edge; the edge's two clients are the audience."""
    polled = of(
        settings,
        {"backend": "icecast", "urls": ["http://one.localhost:8000", "http://two.localhost:8000"], "password": "x"},
        EXCLUDE={"relay_networks": ["203.0.113.8/32"]},
    )
    polled.transport = PretendEdges(
        one=PretendIcecast({"/live.mp3": [(1, 900, "203.0.113.8")]}),
        two=PretendIcecast({"/live.mp3": [(1, 90, "192.0.2.1"), (2, 30, "192.0.2.2")]}),
    )
    store(polled.pull({}, now_ms=at(15)), now_ms=at(15))
    assert sorted(Session.objects.values_list("exclusion", "rule")) == [
        ("", ""),
        ("", ""),
        ("relay", "relay network 1"),
    ]
    assert Session.objects.counted().count() == 2
    figures = live.figures(1, now_ms=at(16))
    assert figures.listeners == 2
    assert not any("203.0.113" in str(row) for row in Connection.objects.values())


def test_edges_add_up_in_the_tables_and_one_that_is_down_ends_nobody(stream: Stream, settings: Any) -> None:
    polled = of(
        settings,
        {"backend": "icecast", "urls": ["http://one.localhost:8000", "http://two.localhost:8000"], "password": "x"},
    )
    one = PretendIcecast({"/live.mp3": [(1, 90, "192.0.2.1")]})
    two = PretendIcecast({"/live.mp3": [(1, 30, "192.0.2.2")]})
    polled.transport = PretendEdges(one=one, two=two)
    report = polled.pull({}, now_ms=at(15))
    store(report, now_ms=at(15))
    assert live.figures(1, now_ms=at(16)).listeners == 2
    two.before = lambda target: httpx.Response(502)
    with pytest.raises(Exception, match="502"):
        polled.pull(dict(report.cursor or {}), now_ms=at(30))
    two.before = lambda target: None
    one.mounts["/live.mp3"] = []
    two.mounts["/live.mp3"] = [(1, 60, "192.0.2.2")]
    store(polled.pull(dict(report.cursor or {}), now_ms=at(45)), now_ms=at(45))
    assert live.figures(1, now_ms=at(46)).listeners == 1
    assert Connection.objects.count() == 2


def test_the_restart_of_one_edge_ends_its_own_listeners_alone(stream: Stream, settings: Any) -> None:
    polled = of(
        settings,
        {"backend": "icecast", "urls": ["http://one.localhost:8000", "http://two.localhost:8000"], "password": "x"},
    )
    one = PretendIcecast({"/live.mp3": [(1, 90, "192.0.2.1")]})
    two = PretendIcecast({"/live.mp3": [(1, 90, "192.0.2.2")]})
    polled.transport = PretendEdges(one=one, two=two)
    report = polled.pull({}, now_ms=at(15))
    store(report, now_ms=at(15))
    one.mounts["/live.mp3"] = [(1, 105, "192.0.2.1")]
    two.server, two.mounts["/live.mp3"] = "run 2", [(1, 2, "192.0.2.3")]
    store(polled.pull(dict(report.cursor or {}), now_ms=at(30)), now_ms=at(30))
    assert sorted(Connection.objects.values_list("ended", flat=True)) == [False, False, True]
    assert live.figures(1, now_ms=at(31)).listeners == 2


# Totals --------------------------------------------------------------------------------------------------


def test_totals_are_the_live_count_marked_as_such_and_never_a_session(stream: Stream) -> None:
    store(totals(15, live=7), now_ms=at(15))
    figures = live.figures(1, now_ms=at(16))
    assert figures.listeners == 7
    (shown,) = figures.staff()["streams"]
    assert (shown["listeners"], shown["is_total"]) == (7, True)
    assert figures.public()["includes_totals"] is True
    assert "streams" not in figures.public()
    assert Session.objects.count() == Connection.objects.count() == 0


def test_old_totals_are_unknown_and_so_is_a_stream_that_is_left_out(stream: Stream) -> None:
    store(totals(15, live=7), now_ms=at(15))
    assert live.figures(1, now_ms=at(75)).listeners is None
    store(totals(90, live=5), now_ms=at(90))
    assert live.figures(1, now_ms=at(91)).listeners == 5
    Stream.objects.create(slug="hidden", station_id=1, source="ice")
    figures = live.figures(1, now_ms=at(91))
    assert figures.listeners is None
    assert figures.public()["includes_totals"] is False
    assert {one.slug: one.listeners for one in figures.streams} == {"live": 5, "hidden": None}


def test_the_page_of_the_state_shows_the_total_as_what_it_is(
    stream: Stream, settings: Any, client: Client, admin_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not 'open sockets 0', as if nobody listened; and once it is old, unknown."""
    client.force_login(admin_user)
    store(totals(15, live=7), now_ms=at(15))

    def shown(seconds: float) -> tuple[dict[str, Any], str]:
        monkeypatch.setattr(timezone, "now", lambda: from_ms(at(seconds)))
        address = reverse("listen_stats:status")
        (line,) = client.get(address, {"format": "json"}).json()["streams"]
        return line, client.get(address).content.decode()

    line, page = shown(16)
    assert (line["is_total"], line["total"], line["open_connections"]) == (True, 7, 0)
    assert '7 <span class="ls-tag">total only</span>' in page
    line, page = shown(16 + 600)
    assert (line["is_total"], line["total"]) == (True, None)
    assert '– <span class="ls-tag">total only</span>' in page


def test_nobody_by_totals_is_zero(stream: Stream) -> None:
    store(totals(15, live=0), now_ms=at(15))
    assert live.figures(1, now_ms=at(16)).listeners == 0


def test_totals_add_to_the_listeners_of_other_streams(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "SOURCES": {**SETTINGS["SOURCES"], "far": SETTINGS["SOURCES"]["ice"]}}
    Stream.objects.create(slug="partner", station_id=1, source="far")
    store(poll(15, heard(1, 0, 15), heard(2, 0, 15)), now_ms=at(15))
    told = totals(15, partner=40)
    store(Report(source="far", totals=told.totals, heard=told.heard, cursor=told.cursor), now_ms=at(15))
    figures = live.figures(1, now_ms=at(16))
    assert figures.listeners == 42
    assert [(one.slug, one.listeners, one.is_total) for one in figures.streams] == [
        ("live", 2, False),
        ("partner", 40, True),
    ]


def test_what_only_totals_are_known_of_has_no_coverage_and_no_false_zero(stream: Stream) -> None:
    """An airing that was heard by totals alone was not observed: its audience is unknown, not nobody."""
    one = airing(0, 600)
    for seconds in range(15, 616, 15):
        store(totals(seconds, live=7), now_ms=at(seconds))
    rollup.refresh(1, at(0), at(600), now_ms=at(700))
    assert one.audiences.get().coverage == 0
    assert SourceState.objects.get().heard is not None


def test_totals_cover_their_stream_apart_from_what_was_heard_of_listeners(stream: Stream) -> None:
    """The page of the state and the doctor show when totals were heard; figures do not take it for observed."""
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    for seconds in range(30, 616, 15):
        store(totals(seconds, live=7), now_ms=at(seconds))
    store(poll(630, heard(1, 0, 630)), now_ms=at(630))
    kinds = [
        ((to_ms(one.started) - at(0)) / S, (to_ms(one.ended) - at(0)) / S, one.totals_only)
        for one in Coverage.objects.order_by("started")
    ]
    assert kinds == [(0, 15, False), (15, 615, True), (615, 630, False)]
    one = airing(0, 600)
    rollup.refresh(1, at(0), at(600), now_ms=at(700))
    assert one.audiences.get().coverage == pytest.approx(15 / 600)
    (line,) = status.status(conf.get(), now=from_ms(at(630))).streams
    assert [(to_ms(left), to_ms(right)) for left, right in line.spans] == [(at(0), at(630))]


def test_the_same_totals_twice_are_the_same(stream: Stream) -> None:
    for _ in range(2):
        store(totals(15, live=7), now_ms=at(15))
    assert live.figures(1, now_ms=at(16)).listeners == 7


def test_a_source_that_learns_to_tell_listeners_apart_shows_no_totals_any_more(stream: Stream) -> None:
    store(totals(15, live=7), now_ms=at(15))
    store(poll(30, heard(1, 20, 30)), now_ms=at(30))
    figures = live.figures(1, now_ms=at(31))
    assert (figures.listeners, figures.streams[0].is_total) == (1, False)
    assert figures.public()["includes_totals"] is False
    (line,) = status.status(conf.get(), now=from_ms(at(31))).streams
    assert (line.is_total, line.total, line.open_connections) == (False, None, 1)


def test_the_doctor_says_what_totals_are_good_for(stream: Stream) -> None:
    store(totals(15, live=7), now_ms=at(15))
    (finding,) = [one for one in doctor._coverage(at(2 * HOUR / S)) if one.subject == "stream live"]
    assert "totals alone" in finding.text
