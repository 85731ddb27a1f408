"""Listeners that cannot be told apart: whichever way they are heard it is found, shown, and gone once repaired."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client

from aircox_listen_stats import conf, doctor
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.kernel.types import Address
from aircox_listen_stats.models import Blur, Connection, Session, SourceState, Stream
from aircox_listen_stats.pipeline import (
    blurs,
    households,
    inbox,
    media,
    players,
    recognise,
    secrets,
    stream_events,
    tokens,
)
from aircox_listen_stats.pipeline.collect import Collector
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.reports import status
from aircox_listen_stats.reports.blurs import Reason, reasons
from aircox_listen_stats.sources import registry, urlauth
from aircox_listen_stats.sources.base import Report
from aircox_listen_stats.web import buffer as buffers
from aircox_listen_stats.web import player_events

from .conftest import HOUR, SETTINGS, T0, S, at, heard, poll
from .scripted import OneStation

pytestmark = pytest.mark.django_db

PROXY = "203.0.113.5"
Heard = tuple[str, str]
"""The address and the agent of a listener."""

BEHIND = [(PROXY, f"Player{chr(97 + number)}/1.{number}") for number in range(26)]
"""Everybody behind one proxy, each with an agent of their own."""

APART = [(f"198.51.100.{number}", "VLC/3.0.20") for number in range(1, 4)]


def found() -> list[tuple[str, int | None, int | None, bool]]:
    return list(Blur.objects.order_by("pk").values_list("why", "most", "compared", "is_open"))


def told(now_ms: int) -> list[str]:
    """What the doctor warns of."""
    return [one.text for one in doctor._told_apart(now_ms)]


# Every way of hearing ------------------------------------------------------------------------------


def by_poll(listeners: Iterable[Heard], settings: Any, tmp_path: Path) -> None:
    """Icecast's list of who is there."""
    sockets = [heard(number, 0, 60, agent=agent, who=None) for number, (_, agent) in enumerate(listeners, start=1)]
    addressed = [_at(one, Address(ip=ip, agent=agent)) for one, (ip, agent) in zip(sockets, listeners, strict=True)]
    store(poll(60, *addressed), now_ms=at(60))


def _at(observation: Any, address: Address) -> Any:
    from dataclasses import replace

    return replace(observation, address=address)


def by_access_log(listeners: Iterable[Heard], settings: Any, tmp_path: Path) -> None:
    """Lines at the end of each connection; one after the other, nobody at once with anybody."""
    settings.AIRCOX_LISTEN_STATS = with_source({"backend": "accesslog", "path": str(tmp_path / "access.log")})
    lines = []
    for number, (ip, agent) in enumerate(listeners):
        stamp = dt.datetime.fromtimestamp((T0 - 1800 * S + number * 60 * S) / S, dt.UTC)
        lines.append(f'{ip} - - [{stamp:%d/%b/%Y:%H:%M:%S} +0000] "GET /live.mp3 HTTP/1.1" 200 5000 "-" "{agent}" 50\n')
    follow(tmp_path / "access.log", lines)


def by_hls_log(listeners: Iterable[Heard], settings: Any, tmp_path: Path) -> None:
    """nginx's lines, one for each segment."""
    entry = {"source": "ice", "station": 1, "mount": "/hls/live.m3u8"}
    settings.AIRCOX_LISTEN_STATS = {
        **with_source({"backend": "hls", "path": str(tmp_path / "hls.log"), "target_seconds": 4}),
        "STREAMS": {"live": entry},
    }
    lines = [
        json.dumps(
            {
                "msec": f"{(T0 - 600 * S) / S + 4 * segment:.3f}",
                "remote_addr": ip,
                "method": "GET",
                "uri": f"/hls/hi_{segment}.ts",
                "args": "",
                "status": 200,
                "body_bytes_sent": 60_000,
                "request_time": "0.000",
                "completion": "OK",
                "session": "",
                "range": "",
                "agent": agent,
            }
        )
        + "\n"
        for segment in range(100, 103)
        for ip, agent in listeners
    ]
    follow(tmp_path / "hls.log", lines)


def follow(path: Path, lines: Iterable[str]) -> None:
    """What the collector does with a log that it follows from its end on."""
    path.write_text("")
    recognise.forget()
    source = registry.source(conf.get(), "ice")
    first = source.pull({}, now_ms=at(-3000))
    with path.open("a") as log:
        log.writelines(lines)
    report = source.pull(dict(first.cursor or {}), now_ms=at(60))
    source.close()
    store(report, now_ms=at(60))


def by_callbacks(listeners: Iterable[Heard], settings: Any, tmp_path: Path) -> None:
    """listener_remove, taken by a web process."""
    settings.AIRCOX_LISTEN_STATS = {
        **with_source({"backend": "urlauth"}),
        "JOURNAL_FOLDER": tmp_path / "journals",
        "CALLBACK_TOKENS": {"ice": "x"},
    }
    secrets.current(at(60))
    taken = buffers.Buffer(patience_seconds=0)
    taken._see_to_threads = lambda: None  # type: ignore[method-assign]
    for number, (ip, agent) in enumerate(listeners):
        event = urlauth.AuthEvent(
            action="listener_remove",
            mount="/live.mp3",
            client=str(number),
            address=Address(ip=ip, agent=agent),
            duration_s=30,
        )
        taken.keep(buffers.Arrived(source="ice", stream="live", received_ms=at(60), event=event))
    taken.flush()
    taken.journal.let_go()
    drain(at(60))


def by_stream_events(listeners: Iterable[Heard], settings: Any, tmp_path: Path) -> None:
    """A log shipper's batch."""
    settings.AIRCOX_LISTEN_STATS = with_source({"backend": "stream_events"})
    source = registry.source(conf.get(), "ice")
    stamp = f"{dt.datetime.fromtimestamp(T0 / S, dt.UTC):%d/%b/%Y:%H:%M:%S} +0000"
    batch = [
        {"origin": "icecast", "ip": ip, "method": "GET", "path": "/live.mp3", "status": 200, "bytes_sent": 5000,
         "user_agent": agent, "time_end": stamp, "seconds_connected": 30}
        for ip, agent in listeners
    ]  # fmt: skip
    taken = stream_events.take(source, json.dumps(batch).encode(), most_events=1000, now_ms=at(60))
    assert taken.accepted == len(batch)
    store(stream_events.report(source, {}, now_ms=at(60)), now_ms=at(60))


WAYS: list[Callable[..., None]] = [by_poll, by_access_log, by_hls_log, by_callbacks, by_stream_events]


def with_source(source: dict[str, Any]) -> dict[str, Any]:
    return {**SETTINGS, "SOURCES": {"ice": source}}


def drain(now_ms: int) -> None:
    """What the collector does with callbacks that wait."""
    state = SourceState.objects.filter(pk="ice").first()
    report = inbox.report(registry.source(conf.get(), "ice"), state.cursor if state else {}, now_ms=now_ms)
    assert report is not None
    store(report, now_ms=now_ms)


@pytest.mark.parametrize("hear", WAYS)
def test_everybody_behind_one_address_is_found_whatever_their_agents(
    hear: Callable[..., None], stream: Stream, settings: Any, tmp_path: Path
) -> None:
    hear([*BEHIND, *APART], settings, tmp_path)
    blurs.look(now_ms=at(61))
    assert found() == [("address", 26, 29, True)]
    (text,) = told(at(61))
    assert "26 of 29 listeners" in text
    (line,) = status.status(conf.get(), now=from_ms(at(61))).streams
    (shown,) = line.blurs
    assert (shown.most, shown.compared, shown.why, line.is_blurred) == (26, 29, Reason.ADDRESS, True)
    assert not any(PROXY in str(row) for row in Blur.objects.values())


@pytest.mark.parametrize("hear", WAYS)
def test_a_home_with_three_radios_is_none(
    hear: Callable[..., None], stream: Stream, settings: Any, tmp_path: Path
) -> None:
    """Nor are nine of one family, of whom nothing is concluded, nor a dozen who are apart."""
    hear([*BEHIND[:3], *APART], settings, tmp_path)
    blurs.look(now_ms=at(61))
    assert Connection.objects.count() == 6
    assert found() == []


def test_web_players_behind_one_address_are_found(client: Client, settings: Any, db: None) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "SOURCES": {"ice": {"backend": "player_events"}},
        "PLAYER": {"enabled": True, "streams": {"https://cdn.example/radio": "live"}},
    }
    for one in (recognise, media, player_events.visit_pace, player_events.listener_pace, player_events.address_pace):
        one.forget()
    Stream.objects.create(slug="live", station_id=1, source="ice")
    for number, (ip, agent) in enumerate([*BEHIND, *APART]):
        browser = f"Mozilla/5.0 ({agent})" if ip == PROXY else agent
        headers = {"User-Agent": browser}
        address = player_events_address()
        visit = client.get(address, headers=headers, REMOTE_ADDR=ip).json()["visit"]
        body = {"visit": visit, "sequence": number, "state": "playing", "src": "https://cdn.example/radio"}
        answer = client.post(address, json.dumps(body), content_type="text/plain", headers=headers, REMOTE_ADDR=ip)
        assert answer.status_code == 204
    now_ms = time.time_ns() // 1_000_000
    players.refresh(OneStation(), now_ms=now_ms)
    drain(now_ms)
    blurs.look(now_ms=now_ms)
    assert found() == [("address", 26, 29, True)]


def player_events_address() -> str:
    from tests.web.test_player_events import ADDRESS

    return ADDRESS


# What counts as one ------------------------------------------------------------------------------------


def sockets(*where: tuple[str, str], client: int = 1, started: float = 0, seen: float = 60) -> list[Any]:
    return [
        _at(heard(number, started, seen), Address(ip=ip, agent=agent))
        for number, (ip, agent) in enumerate(where, client)
    ]


def test_one_64_of_ipv6_is_one_home(stream: Stream) -> None:
    home = [(f"2001:db8:1:2::{number:x}", f"App{chr(97 + number)}") for number in range(1, 11)]
    others = [(f"2001:db8:1:{number}::1", "VLC") for number in range(3, 6)]
    store(poll(60, *sockets(*home, *others)), now_ms=at(60))
    blurs.look(now_ms=at(61))
    assert found() == [("address", 10, 13, True)]


def test_one_agent_many_times_at_once_is_a_relay_and_is_found(stream: Stream) -> None:
    store(poll(60, *sockets(*[(PROXY, "Edge/1.0")] * 12, *APART)), now_ms=at(60))
    blurs.look(now_ms=at(61))
    assert found() == [("address", 12, 15, True)]


def test_a_relay_that_is_named_is_no_finding(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "EXCLUDE": {"relay_networks": [PROXY]}}
    recognise.forget()
    store(poll(60, *sockets(*BEHIND, *APART)), now_ms=at(60))
    blurs.look(now_ms=at(61))
    assert found() == []


def test_a_faithful_listener_who_reconnects_is_one(stream: Stream) -> None:
    again = [
        _at(heard(number, 60 * number, 60 * number + 50, ended=True), Address(ip=PROXY, agent="VLC"))
        for number in range(40)
    ]
    others = sockets(*[(f"198.51.100.{number}", "VLC") for number in range(1, 11)], client=100, started=2000, seen=2400)
    store(Report(source="ice", observations=[*again, *others]), now_ms=at(2400))
    blurs.look(now_ms=at(2400))
    compared = blurs.compare([(one.listener, to_ms(one.started), to_ms(one.seen)) for one in Connection.objects.all()])
    assert (compared.most, compared.compared, found()) == (1, 11, [])


def test_nine_at_one_address_are_too_few_to_conclude_from(stream: Stream) -> None:
    store(poll(60, *sockets(*BEHIND[:9])), now_ms=at(60))
    blurs.look(now_ms=at(61))
    assert (found(), blurs.LEAST_COMPARED) == ([], 10)


def test_the_change_of_the_secret_makes_nobody_two(stream: Stream) -> None:
    """Who is heard under yesterday's key and today's is one: a home of three is no home of six."""
    home = Address(ip=PROXY, agent="Radio")
    households.remember(home, 11, 12)
    assert households.of(11) == households.of(12)
    assert blurs.compare([(11, 0, 10), (12, 20, 30)]).compared == 1


# Until it is repaired ----------------------------------------------------------------------------------


def test_it_is_gone_with_the_next_look_once_the_listeners_come_apart(stream: Stream) -> None:
    store(poll(60, *sockets(*BEHIND)), now_ms=at(60))
    blurs.look(now_ms=at(61))
    later = 2 * HOUR / S
    apart = [(f"198.51.100.{number}", "VLC") for number in range(1, 21)]
    store(poll(later, *sockets(*apart, client=100, started=later - 60, seen=later)), now_ms=at(later))
    blurs.look(now_ms=at(later))
    assert found() == [("address", 26, 26, False)]
    assert told(at(later)) == []
    (line,) = status.status(conf.get(), now=from_ms(at(later))).streams
    assert line.blurs == ()
    assert reasons([stream.pk], [(at(0), at(120))]) == (Reason.ADDRESS,)
    assert reasons([stream.pk], [(at(120), at(later))]) == ()


def test_it_goes_on_as_one_stretch_while_it_lasts(stream: Stream) -> None:
    for minute in range(1, 5):
        store(poll(60 * minute, *sockets(*BEHIND, seen=60 * minute)), now_ms=at(60 * minute))
        blurs.look(now_ms=at(60 * minute))
    (one,) = Blur.objects.all()
    assert (to_ms(one.started), to_ms(one.ended)) == (at(0), at(240))


def test_what_comes_and_goes_at_the_edge_stays_one_stretch(stream: Stream) -> None:
    for minute in range(1, 9):
        most = 6 if minute % 2 else 5
        blurs._found(stream.pk, Blur.Why.ADDRESS, most, 10, since_ms=at(0), now_ms=at(60 * minute))
        blurs._well(stream.pk, Blur.Why.ADDRESS)
    assert found() == [("address", 5, 10, False)]
    blurs._found(stream.pk, Blur.Why.ADDRESS, 7, 10, since_ms=at(9000), now_ms=at(9060))
    assert found() == [("address", 5, 10, False), ("address", 7, 10, True)]
    blurs._found(stream.pk, Blur.Why.ADDRESS, 8, 10, since_ms=at(200_000), now_ms=at(200_060))  # two days later
    assert found() == [("address", 5, 10, False), ("address", 7, 10, False), ("address", 8, 10, True)]


def test_a_web_process_looks_once_a_minute_and_survives_a_database_that_is_away(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(blurs, "_turn", blurs._Turn())
    monkeypatch.setattr(blurs, "look", lambda *, now_ms: looked.append(now_ms))
    for second in (0, 30, 59, 60, 61, 119, 120):
        blurs.look_in_time(now_ms=at(second))
    assert looked == [at(60), at(120)]

    def away(*, now_ms: int) -> None:
        raise DatabaseError("198.51.100.7")

    monkeypatch.setattr(blurs, "look", away)
    blurs.look_in_time(now_ms=at(180))


def test_whoever_is_told_of_listeners_over_http_looks(
    client: Client, stream: Stream, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(blurs, "look_in_time", lambda *, now_ms: looked.append(now_ms))
    settings.AIRCOX_LISTEN_STATS = {
        **with_source({"backend": "stream_events"}),
        "PLAYER": {"enabled": True, "streams": {"https://cdn.example/radio": "live"}},
    }
    for one in (media, player_events.visit_pace, player_events.listener_pace, player_events.address_pace):
        one.forget()
    text = tokens.create(name="test", source="ice", scopes=["ingest"], now_ms=time.time_ns() // 1_000_000)[1]
    answer = client.post(
        "/audience/api/v1/stats/ingest/stream-events/",
        "[]",
        content_type="application/json",
        headers={"Authorization": f"Token {text}"},
    )
    assert (answer.status_code, len(looked)) == (200, 1)
    visit = client.get(player_events_address()).json()["visit"]
    body = {"visit": visit, "sequence": 1, "state": "playing", "src": "https://cdn.example/radio"}
    answer = client.post(player_events_address(), json.dumps(body), content_type="text/plain")
    assert (answer.status_code, len(looked)) == (204, 2)


def test_a_night_with_few_listeners_does_not_refute_it(stream: Stream) -> None:
    store(poll(60, *sockets(*BEHIND)), now_ms=at(60))
    blurs.look(now_ms=at(61))
    late = 3 * HOUR / S
    store(poll(late, *sockets(*BEHIND[:6], started=late - 60, seen=late)), now_ms=at(late))
    blurs.look(now_ms=at(late))
    assert found() == [("address", 26, 26, True)]


def test_a_process_that_knows_few_of_many_says_nothing(stream: Stream) -> None:
    """One web process of several, or a collector that has just started."""
    store(poll(60, *sockets(*BEHIND)), now_ms=at(60))
    blurs.look(now_ms=at(61))
    households.forget()
    households.remember(Address(ip="198.51.100.1", agent="VLC"), Connection.objects.values_list("listener")[0][0])
    blurs.look(now_ms=at(120))
    assert found() == [("address", 26, 26, True)]


def test_a_collector_that_starts_anew_learns_addresses_from_the_next_poll(stream: Stream) -> None:
    store(poll(60, *sockets(*BEHIND)), now_ms=at(60))
    households.forget()
    blurs.look(now_ms=at(61))
    assert found() == []
    store(poll(75, *sockets(*BEHIND, seen=75)), now_ms=at(75))
    blurs.look(now_ms=at(76))
    assert found() == [("address", 26, 26, True)]


@pytest.mark.django_db(transaction=True)
def test_the_collector_looks_once_a_minute(stream: Stream) -> None:
    collector = Collector(sources={}, onair=OneStation())
    store(poll(60, *sockets(*BEHIND)), now_ms=at(60))
    collector.step(now_ms=at(61))
    assert found() == [("address", 26, 26, True)]
    collector.close()


def test_what_is_remembered_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    households.forget()
    monkeypatch.setattr(households, "REMEMBERED", 3)
    for number in range(8):
        households.remember(Address(ip=f"198.51.100.{number}"), number)
    assert [number for number in range(8) if households.of(number)] == [3, 4, 5, 6, 7]
    households.forget()


# Our own proxy, and sources that join ---------------------------------------------------------------------


def test_sockets_of_whom_only_our_own_proxy_is_known_are_told(stream: Stream) -> None:
    behind = [heard(number, 0, 120, who=5, agent=f"App{number}", identity_known=False) for number in range(1, 4)]
    others = [heard(number, 0, 120, who=number) for number in range(10, 20)]
    store(poll(120, *behind, *others), now_ms=at(120))
    blurs.look_at_sources((), now_ms=at(121))
    assert found() == [("proxy", 3, 13, True)]
    assert "own proxy" in told(at(121))[0]
    named = [heard(number, 0, 130, who=40 + number, agent=f"App{number}") for number in range(1, 4)]
    store(Report(source="ice", observations=named), now_ms=at(130))
    blurs.look_at_sources((), now_ms=at(131))
    assert found() == [("proxy", 3, 13, False)]


def test_a_source_that_takes_several_for_one_is_told_while_it_counts_the_stream(stream: Stream) -> None:
    blurs.look_at_sources(["ice"], now_ms=at(60))
    blurs.look_at_sources(["ice"], now_ms=at(120))
    assert found() == [("source", None, None, True)]
    assert "several listeners for one" in told(at(121))[0]
    blurs.look_at_sources([], now_ms=at(180))
    assert found() == [("source", None, None, False)]
    assert registry.backend("azuracast").joins_listeners
    assert not registry.backend("icecast").joins_listeners


def test_sessions_of_a_shared_address_are_found_again_by_deriving(stream: Stream) -> None:
    def session(number: int, rule: str) -> None:
        Session.objects.create(
            stream=stream, listener=number, started=from_ms(at(number)), ended=from_ms(at(number + 600)),
            played_ms=600 * S, rule=rule, source="file",
        )  # fmt: skip

    session(1, blurs.SHARED_ADDRESS)
    session(2, "")
    for _ in range(2):
        blurs.of_sessions(stream.pk, at(-HOUR / S), at(HOUR / S), now_ms=at(2 * HOUR / S))
        assert found() == [("shared", 1, 2, False)]
    (one,) = Blur.objects.all()
    assert (to_ms(one.started), to_ms(one.ended)) == (at(1), at(601))
    Session.objects.update(exclusion="replaced")
    blurs.of_sessions(stream.pk, at(-HOUR / S), at(HOUR / S), now_ms=at(2 * HOUR / S))
    assert found() == []
