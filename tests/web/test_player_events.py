"""Where web players tell of themselves: one durable write, for whoever wants to be counted."""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.contrib.staticfiles import finders
from django.core import signing
from django.db import OperationalError, connection
from django.template import Context, Template
from django.test import Client
from hypothesis import HealthCheck

from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel.player import LATENESS_MS
from aircox_listen_stats.models import Inbox, PlayerEvent, PlayerSession, PlayerVisit, RecordingPlay, Stream
from aircox_listen_stats.onair import aircox
from aircox_listen_stats.pipeline import media, players, recognise, secrets
from aircox_listen_stats.templatetags import listen_stats_live
from aircox_listen_stats.web import openapi, player_events
from aircox_listen_stats.web.openapi_player import PLAYERS
from aircox_listen_stats.web.pace import MINUTE_MS, Pace
from aircox_listen_stats.web.player_events import MAX_BODY_BYTES, MOST_EVENTS
from tests.onair.studio import Studio
from tests.sources import player_recording
from tools import minify_module

pytestmark = pytest.mark.django_db

HOUR_MS = 3600 * 1000
POSITIVE = schemathesis.GenerationMode.POSITIVE
ADDRESS = "/audience/api/v1/stats/player-events/"
SOUND_ADDRESS = "/media/programs/one.mp3"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
SETTINGS: dict[str, Any] = {
    "SOURCES": {"ice": {"backend": "icecast", "url": "http://127.0.0.1:9", "user": "admin", "password": "x"}},
    "STREAMS": {"live": {"source": "ice", "mount": "/live.mp3"}, "low": {"source": "ice"}},
    "PLAYER": {"enabled": True, "streams": {"https://cdn.example/radio": "low"}},
}


@pytest.fixture(autouse=True)
def station(settings: Any, db: None) -> Any:
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    _forget()
    for slug in ("live", "low"):
        Stream.objects.create(slug=slug, station_id=1, source="ice")
    yield Studio().sound("one.mp3")
    _forget()


def _forget() -> None:
    paces = (player_events.visit_pace, player_events.listener_pace, player_events.address_pace)
    for one in (secrets, recognise, media, *paces):
        one.forget()


@pytest.fixture
def paced(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight requests a minute of one address, no other limit that could be met, and all in one instant."""
    now_ms = player_events.wall_ms()
    monkeypatch.setattr(player_events, "wall_ms", lambda: now_ms)
    pace = {"address_events_per_minute": 8, "listener_events_per_minute": 10**6, "events_per_minute": 10**6}
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {**SETTINGS["PLAYER"], **pace}}


def visit(client: Client, **headers: str) -> str:
    return client.get(ADDRESS, headers=headers).json()["visit"]


def event(token: str, **changes: Any) -> dict[str, Any]:
    given = {"visit": token, "sequence": 1, "state": "playing", "src": SOUND_ADDRESS, "position_ms": 0} | changes
    return {name: value for name, value in given.items() if value is not ...}


def tell(
    client: Client, body: Any, *, kind: str = "text/plain;charset=UTF-8", address: str = "192.0.2.7", **headers: str
):
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return client.post(ADDRESS, text, content_type=kind, headers={"User-Agent": AGENT} | headers, REMOTE_ADDR=address)


# What is kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/plain;charset=UTF-8", "application/json"])
def test_an_event_is_kept_at_our_own_clock(client, station, kind):
    before_ms = time.time_ns() // 1_000_000
    answer = tell(client, event(visit(client), state="seek", position_ms=61_500, duration_ms=600_000), kind=kind)
    assert (answer.status_code, answer.content) == (204, b"")
    kept = PlayerEvent.objects.get()
    assert before_ms <= to_ms(kept.at) <= time.time_ns() // 1_000_000
    assert (kept.sequence, kept.state, kept.sound_id, kept.stream_id) == (1, "seek", station.pk, None)
    assert (kept.position_ms, kept.duration_ms, kept.app, kept.is_fresh) == (61_500, 600_000, "Firefox", True)


def test_a_players_clock_is_believed_for_half_a_minute_and_never_ahead(client):
    token = visit(client)
    now_ms = time.time_ns() // 1_000_000
    for sequence, age_ms in enumerate((0, 5_000, 2**52)):
        assert tell(client, event(token, sequence=sequence, age_ms=age_ms)).status_code == 204
    ages = [now_ms - to_ms(kept.at) for kept in PlayerEvent.objects.order_by("sequence")]
    for age_ms, told_ms in zip(ages, (0, 5_000, LATENESS_MS), strict=True):
        assert told_ms - 60_000 < age_ms <= told_ms
    assert ages[2] - ages[1] > LATENESS_MS - 5_000 - 60_000
    assert tell(client, event(token, sequence=9, age_ms=-5)).status_code == 400


def test_nobodys_address_or_agent_is_kept_or_logged(client, caplog):
    caplog.set_level(logging.DEBUG)
    token = visit(client)
    tell(client, event(token), address="192.0.2.77")
    tell(client, event(token, src="/media/none.mp3"), address="192.0.2.77")
    tell(client, "{", address="192.0.2.77")
    kept = repr(list(PlayerEvent.objects.values()))
    assert PlayerEvent.objects.count() == 1
    for hidden in ("192.0.2.77", "Mozilla", token, "one.mp3"):
        assert hidden not in kept
    assert "192.0.2.77" not in caplog.text
    assert token not in caplog.text


def test_listeners_are_told_apart_by_address_and_agent(client):
    token = visit(client)
    tell(client, event(token, sequence=1), address="192.0.2.7")
    tell(client, event(token, sequence=2), address="192.0.2.8")
    tell(client, event(token, sequence=3), address="192.0.2.7", **{"User-Agent": "VLC/3.0.20"})
    tell(client, event(token, sequence=4), address="192.0.2.7")
    keys = list(PlayerEvent.objects.order_by("sequence").values_list("listener", flat=True))
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]


def test_a_forwarded_address_is_believed_from_this_machine_alone(client):
    token = visit(client)
    told = [("127.0.0.1", "198.51.100.9"), ("192.0.2.7", "198.51.100.9"), ("198.51.100.9", "192.0.2.7")]
    for sequence, (peer, forwarded) in enumerate([*told, ("", "198.51.100.9")]):
        tell(client, event(token, sequence=sequence), address=peer, **{"X-Forwarded-For": forwarded})
    keys = list(PlayerEvent.objects.order_by("sequence").values_list("listener", flat=True))
    assert keys[0] == keys[2] == keys[3] != keys[1]


@pytest.mark.parametrize(("header", "value"), [("DNT", "1"), ("Sec-GPC", "1")])
def test_nothing_of_whoever_does_not_want_it(client, header, value):
    token = visit(client)
    assert tell(client, event(token), **{header: value}).status_code == 204
    assert client.get(ADDRESS, headers={header: value}).status_code == 204
    assert not PlayerEvent.objects.exists()
    assert tell(client, event(token), **{header: "0"}).status_code == 204
    assert PlayerEvent.objects.exists()


def test_it_is_one_write(client, rf, monkeypatch, django_assert_num_queries):
    now_ms = player_events.wall_ms()
    monkeypatch.setattr(player_events, "wall_ms", lambda: now_ms)  # what is remembered is so for the clock's minute
    token = visit(client)
    tell(client, event(token))
    request = rf.post(ADDRESS, json.dumps(event(token, sequence=2)), content_type="text/plain", REMOTE_ADDR="192.0.2.7")
    with django_assert_num_queries(1) as queries:
        assert player_events.player_events(request).status_code == 204
    assert queries.captured_queries[0]["sql"].startswith("INSERT")


# Media ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("src", "slug"),
    [
        ("http://127.0.0.1:8000/live.mp3", "live"),
        ("https://radio.example/live.mp3?token=secret#now", "live"),
        ("/low", "low"),
        ("https://cdn.example/radio", "low"),
    ],
)
def test_a_stream_is_known_by_its_mount_or_by_the_address_in_the_settings(client, src, slug):
    assert tell(client, event(visit(client), src=src, position_ms=5, duration_ms=7)).status_code == 204
    kept = PlayerEvent.objects.get()
    assert (kept.stream.slug, kept.sound_id, kept.position_ms, kept.duration_ms) == (slug, None, None, None)


@pytest.mark.parametrize("src", [SOUND_ADDRESS, f"https://radio.example{SOUND_ADDRESS}?x", "/media/programs/%6Fne.mp3"])
def test_a_sound_is_known_by_its_file(client, station, src):
    assert tell(client, event(visit(client), src=src)).status_code == 204
    assert PlayerEvent.objects.get().sound_id == station.pk


@pytest.mark.parametrize(
    "src",
    [
        *("/media/programs/two.mp3", "/media/", "/media", "/other.mp3", "blob:https://radio.example/1-2"),
        *("/media/../../etc/passwd", "/media/%00", "http://[", "https://other.example/radio", " "),
    ],
)
def test_what_is_neither_is_not_kept(client, src):
    answer = tell(client, event(visit(client), src=src))
    assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert not PlayerEvent.objects.exists()


# Recorded -------------------------------------------------------------------------------------------


def replay(client: Client, name: str, monkeypatch: pytest.MonkeyPatch, **headers: str) -> list[tuple[int, int]]:
    """The status of each answer as it was recorded and as it is now; the clock is the recording's."""
    statuses = []
    for one in player_recording.requests(name):
        monkeypatch.setattr(player_events, "wall_ms", lambda at_ms=one["at_ms"]: at_ms)
        monkeypatch.setattr(signing.time, "time", lambda at_ms=one["at_ms"]: at_ms / 1000)
        answer = client.generic(
            one["method"],
            ADDRESS,
            one["body"].encode("latin-1"),
            content_type=one["headers"].get("content-type", ""),
            headers={**one["headers"], **headers},
            REMOTE_ADDR="192.0.2.7",
        )
        statuses.append((one["status"], answer.status_code))
    return statuses


@pytest.fixture
def recorded_station(settings, db):
    """The station that Chromium told."""
    player = {"enabled": True, "allowed_origins": [player_recording.origin_elsewhere()]}
    sources = {"web": {"backend": "player_events"}}
    radio = {"radio": {"source": "web", "mount": "/radio.mp3"}}
    settings.AIRCOX_LISTEN_STATS = {"SOURCES": sources, "STREAMS": radio, "PLAYER": player}
    Stream.objects.create(slug="radio", station_id=1, source="web")
    return Studio("Recorded").sound("nightfall.wav")


def test_what_chromium_sent_is_kept_and_becomes_what_was_heard(client, recorded_station, monkeypatch):
    """Beacons that came in whatever order included: 1.284 s of the stream, 1.862 s of two sections."""
    statuses = replay(client, player_recording.STATION, monkeypatch)
    assert [now for _, now in statuses] == [was for was, _ in statuses]
    assert PlayerEvent.objects.count() == len(statuses) - 1
    now_ms = player_recording.requests(player_recording.STATION)[-1]["at_ms"] + HOUR_MS
    players.refresh(aircox.log(), now_ms=now_ms)
    assert RecordingPlay.objects.get().sections == [[0, 932], [60_000, 60_650]]
    session = PlayerSession.objects.get()
    assert (session.live_ms, session.on_demand_ms, session.is_open) == (1_284, 1_862, False)
    row = Inbox.objects.order_by("pk").last()
    assert (row.payload["stream"], row.payload["ended"]) == ("radio", True)


@pytest.mark.parametrize("name", [player_recording.ELSEWHERE, player_recording.WITHOUT_BEACONS])
def test_what_chromium_sent_from_elsewhere_and_without_beacons_is_kept(client, recorded_station, monkeypatch, name):
    statuses = replay(client, name, monkeypatch)
    assert [now for _, now in statuses] == [was for was, _ in statuses]
    kept = PlayerEvent.objects.order_by("sequence").values_list("state", flat=True)
    assert list(kept) == ["playing", "paused"]


@pytest.mark.parametrize("header", ["DNT", "Sec-GPC"])
def test_of_the_same_with_a_wish_for_privacy_nothing_is_kept(client, recorded_station, monkeypatch, header):
    assert {now for _, now in replay(client, player_recording.STATION, monkeypatch, **{header: "1"})} == {204}
    assert not PlayerEvent.objects.exists()


@pytest.mark.parametrize("case", player_recording.malformed(), ids=lambda case: case["name"])
def test_what_no_player_should_send_is_answered_as_documented(client, recorded_station, case):
    body = case["body"].replace("VISIT", visit(client)).encode("latin-1")
    answer = tell(client, body, kind=case.get("type", "text/plain;charset=UTF-8"))
    assert (answer.status_code, list(answer.json())) == (case["status"], ["error"])
    assert "192.0.2.7" not in answer.json()["error"]
    assert not PlayerEvent.objects.exists()


# Once and no more -------------------------------------------------------------------------------------


def test_an_event_is_taken_once(client):
    token = visit(client)
    for state in ("playing", "paused", "stopped"):
        assert tell(client, event(token, state=state)).status_code == 204
    assert PlayerEvent.objects.get().state == "playing"


def test_visits_are_told_apart(client):
    first, second = visit(client), visit(client)
    tell(client, event(first))
    tell(client, event(second))
    assert PlayerEvent.objects.values("visit").distinct().count() == 2


@pytest.mark.parametrize("token", ["", "12ab", "12ab:1x:forged", "x" * 128, signing.TimestampSigner().sign("12ab")])
def test_a_visit_that_we_did_not_sign_is_refused(client, token):
    answer = tell(client, event(token))
    assert answer.status_code == 403
    assert not PlayerEvent.objects.exists()


def test_a_visit_is_over_after_a_day(client, monkeypatch):
    token = visit(client)
    real = time.time
    monkeypatch.setattr(signing.time, "time", lambda: real() + 24 * 3600 - 5)
    assert tell(client, event(token)).status_code == 204
    monkeypatch.setattr(signing.time, "time", lambda: real() + 24 * 3600 + 5)
    assert tell(client, event(token, sequence=2)).status_code == 403


def test_another_secret_makes_other_visits(client, settings):
    token = visit(client)
    settings.SECRET_KEY = "another"
    assert tell(client, event(token)).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_tabs_and_doubled_beacons_at_once_are_each_kept_once(client):
    """Two visits, each event from four threads at once; nothing is lost, doubled, or refused."""
    tokens = [visit(client), visit(client)]
    together = threading.Barrier(8)

    def worker(number: int) -> list[int]:
        try:
            own = Client()
            together.wait(timeout=60)
            return [tell(own, event(tokens[number % 2], sequence=sequence)).status_code for sequence in range(12)]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        statuses = [status for answers in threads.map(worker, range(8)) for status in answers]
    assert set(statuses) == {204}
    kept = PlayerEvent.objects.order_by("visit", "sequence").values_list("visit", "sequence")
    assert [sequence for _, sequence in kept] == [*range(12), *range(12)]
    assert len({number for number, _ in kept}) == 2


# What is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": -1},
        {"sequence": MOST_EVENTS},
        {"sequence": "1"},
        {"sequence": ...},
        {"state": "dancing"},
        {"state": None},
        {"src": ""},
        {"src": "/" * 1025},
        {"src": None},
        {"position_ms": -1},
        {"position_ms": 1.5},
        {"duration_ms": 2**53},
        {"age_ms": "0"},
        {"ip": "192.0.2.7"},
    ],
    ids=repr,
)
def test_what_is_no_event_is_refused_with_the_reason(client, changes):
    answer = tell(client, event(visit(client), **changes))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.startswith("The body is not an event: ")
    # It names the field, or those that there are; it never quotes what was sent.
    assert any(name in error for name in ("$.", *changes, "Known"))
    assert "dancing" not in error
    assert "192.0.2.7" not in error
    assert not PlayerEvent.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "null",
        '"playing"',
        b"\xff\xfe",
        b'"\xf6"',
        b'{"src": "\xf6"}',
        "[" * 4000,
        '{"a":' * 600,
        "1" * 4000,
        "{}",
    ],
    ids=lambda body: repr(body)[:16],
)
def test_what_is_no_json_object_is_refused(client, body):
    assert tell(client, body).status_code == 400


def test_a_long_body_is_refused(client):
    assert tell(client, " " * (MAX_BODY_BYTES + 1)).status_code == 413
    assert tell(client, json.dumps(event(visit(client))).ljust(MAX_BODY_BYTES)).status_code == 204


def test_other_types_and_methods_are_refused(client):
    assert tell(client, event(visit(client)), kind="application/x-www-form-urlencoded").status_code == 415
    answer = client.put(ADDRESS)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, POST, OPTIONS")


def test_nothing_is_heard_until_it_is_enabled(client, settings):
    token = visit(client)
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {}}
    assert tell(client, event(token)).status_code == 404
    assert client.get(ADDRESS).status_code == 404
    assert Template("{% load listen_stats_live %}{% player_events_script %}").render(Context()) == ""


def test_a_database_that_takes_nothing_asks_to_come_back(client, monkeypatch, caplog):
    token = visit(client)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("row with 192.0.2.7")

    monkeypatch.setattr(PlayerEvent.objects, "bulk_create", broken)
    answer = tell(client, event(token))
    assert (answer.status_code, answer["Retry-After"]) == (503, "10")
    assert "192.0.2.7" not in caplog.text


# Pace ------------------------------------------------------------------------------------------------


def test_a_page_that_tells_too_much_is_told_when_to_come_back(client, settings):
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {**SETTINGS["PLAYER"], "events_per_minute": 3}}
    token, other = visit(client), visit(client)
    statuses = [tell(client, event(token, sequence=sequence)).status_code for sequence in range(5)]
    assert statuses[:4] == [204, 204, 204, 429]
    answer = tell(client, event(token, sequence=6))
    assert answer.status_code == 429
    assert 1 <= int(answer["Retry-After"]) <= 20
    assert tell(client, event(other)).status_code == 204


def test_an_address_that_tells_too_much_is_held_back_whatever_its_visits(client, settings):
    pace = {"listener_events_per_minute": 3}
    tokens = [visit(client, **{"User-Agent": "another"}) for _ in range(5)]
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {**SETTINGS["PLAYER"], **pace}}
    statuses = [tell(client, event(token)).status_code for token in tokens]
    assert statuses == [204, 204, 204, 429, 429]
    assert tell(client, event(tokens[4]), address="192.0.2.8").status_code == 204
    assert client.get(ADDRESS, headers={"User-Agent": AGENT}, REMOTE_ADDR="192.0.2.7").status_code == 429


def ask_and_tell(client: Client, turn: int, *, address: str = "192.0.2.7", agent: str = AGENT) -> list[int]:
    """The statuses of one who gets a visit of its own and, where that is given, tells one event."""
    headers = {"User-Agent": agent}
    got = client.get(ADDRESS, headers=headers, REMOTE_ADDR=address)
    if got.status_code != 200:
        return [got.status_code]
    return [200, tell(client, event(got.json()["visit"], sequence=turn), address=address, **headers).status_code]


def test_one_address_has_one_bound_whatever_its_agents_and_visits(client, paced):
    """Agents and visits are the asker's own invention; with each a fresh bucket there would be no bound."""
    statuses = [one for turn in range(40) for one in ask_and_tell(client, turn, agent=f"Mozilla/5.0 Firefox/{turn}.0")]
    assert statuses == [200, 204] * 4 + [429] * 36
    assert PlayerEvent.objects.count() == 4
    assert ask_and_tell(client, 1, address="192.0.2.8") == [200, 204]


def test_a_household_of_ipv6_is_one_address_and_its_neighbour_another(client, paced):
    statuses = [one for turn in range(1, 21) for one in ask_and_tell(client, turn, address=f"2001:db8:0:7::{turn:x}")]
    assert statuses == [200, 204] * 4 + [429] * 16
    assert ask_and_tell(client, 1, address="2001:db8:0:8::1") == [200, 204]


def test_an_ipv4_address_written_as_ipv6_is_the_same_one(client, paced):
    written = itertools.cycle(["192.0.2.7", "::ffff:192.0.2.7"])
    statuses = [one for turn in range(5) for one in ask_and_tell(client, turn, address=next(written))]
    assert statuses == [200, 204] * 4 + [429]


def test_behind_a_proxy_it_is_the_listeners_address_that_is_bound(client, paced, settings):
    settings.AIRCOX_LISTEN_STATS = {**settings.AIRCOX_LISTEN_STATS, "TRUSTED_PROXIES": ["198.51.100.0/24"]}

    def ask(forwarded: str) -> int:
        headers = {"User-Agent": AGENT, "X-Forwarded-For": forwarded}
        return client.get(ADDRESS, headers=headers, REMOTE_ADDR="198.51.100.1").status_code

    # What stands left of the address that the proxy saw is the asker's invention.
    assert [ask(f"203.0.113.{turn}, 192.0.2.7") for turn in range(10)] == [200] * 8 + [429] * 2
    assert ask("192.0.2.8") == 200


def test_those_whose_address_nobody_tells_share_a_bound(client, paced):
    statuses = [one for turn in range(6) for one in ask_and_tell(client, turn, address="127.0.0.1", agent=f"A/{turn}")]
    assert statuses == [200, 204] * 4 + [429] * 2


def test_an_address_is_told_when_to_come_back(client, paced):
    for turn in range(4):
        ask_and_tell(client, turn)
    for answer in (client.get(ADDRESS, REMOTE_ADDR="192.0.2.7"), tell(client, "no event at all")):
        assert answer.status_code == 429
        assert 1 <= int(answer["Retry-After"]) <= math.ceil(60 / 8)
        assert "192.0.2.7" not in answer.json()["error"]


def test_a_school_has_room_by_default(client):
    """A hundred players at one address: each asks for a visit, begins, and tells a heartbeat in the minute."""
    school = "192.0.2.7"
    statuses = collections.Counter()
    for pupil in range(100):
        agent = {"User-Agent": f"Mozilla/5.0 Firefox/{pupil % 4}.0"}
        token = client.get(ADDRESS, headers=agent, REMOTE_ADDR=school).json()["visit"]
        for sequence in range(2):
            statuses[tell(client, event(token, sequence=sequence), address=school, **agent).status_code] += 1
    assert statuses == {204: 200}


def test_turns_come_back_one_by_one():
    pace = Pace()
    assert [pace.take("a", per_minute=60, now_ms=5_000) for _ in range(60)] == [0.0] * 60
    assert pace.take("a", per_minute=60, now_ms=5_000) == 1.0
    assert pace.take("a", per_minute=60, now_ms=5_999) == pytest.approx(0.001)
    assert pace.take("a", per_minute=60, now_ms=6_000) == 0.0
    assert pace.take("b", per_minute=60, now_ms=5_000) == 0.0


def test_a_clock_that_goes_back_locks_nobody_out_for_long():
    pace = Pace()
    pace.take("a", per_minute=60, now_ms=10**12)
    assert 0 < pace.take("a", per_minute=60, now_ms=10**9) <= 1
    assert pace.take("a", per_minute=60, now_ms=10**9 + MINUTE_MS) == 0.0


def test_only_so_many_keys_are_remembered():
    pace = Pace(most_keys=2)
    for key in "abc":
        pace.take(key, per_minute=1, now_ms=0)
    assert pace.take("c", per_minute=1, now_ms=0) > 0
    assert pace.take("a", per_minute=1, now_ms=0) == 0.0


# Other sites -------------------------------------------------------------------------------------------


def test_pages_of_the_site_itself_may_tell_and_others_may_not(client):
    token = visit(client, Origin="http://testserver")
    assert tell(client, event(token), Origin="http://testserver").status_code == 204
    for origin in ("https://evil.example", "null", "http://testserver.evil.example"):
        answer = tell(client, event(token, sequence=2), Origin=origin)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer
        assert client.options(ADDRESS, headers={"Origin": origin}).status_code == 403
    assert PlayerEvent.objects.count() == 1


def test_pages_of_allowed_origins_may_ask_first_and_tell(client, settings):
    origin = "https://player.example"
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {"enabled": True, "allowed_origins": [origin]}}
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = client.options(ADDRESS, headers=asked)
    assert preflight.status_code == 204
    assert preflight["Access-Control-Allow-Origin"] == origin
    assert preflight["Access-Control-Allow-Methods"] == "GET, POST"
    assert preflight["Access-Control-Allow-Headers"] == "Content-Type"
    assert "Origin" in preflight["Vary"]
    got = client.get(ADDRESS, headers={"Origin": origin})
    assert got["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in got
    assert tell(client, event(got.json()["visit"]), Origin=origin).status_code == 204


def test_no_answer_is_cached(client):
    assert client.get(ADDRESS)["Cache-Control"] == "no-store"


# The page ------------------------------------------------------------------------------------------------


def test_the_tag_writes_the_module_and_where_to_tell():
    written = Template("{% load listen_stats_live %}{% player_events_script %}").render(Context())
    assert written == (
        '<script type="module" src="/static/aircox_listen_stats/js/player-events.min.js"'
        f' data-player-events="{ADDRESS}"></script>'
    )


def test_what_is_served_of_the_module_is_two_kilobytes_at_most():
    served = Path(finders.find(listen_stats_live.PLAYER_MODULE)).read_bytes()
    assert 1000 < len(served) <= 2048
    assert len(gzip.compress(served)) < 1000
    assert b"import" not in served


def test_what_is_served_is_made_of_the_module_that_people_read():
    made = minify_module.minified()
    assert Path(finders.find(listen_stats_live.PLAYER_MODULE)) == minify_module.SERVED
    assert minify_module.SERVED.read_text() == made, "player-events.js was changed since. Run make module."


# The document --------------------------------------------------------------------------------------------


def test_what_the_document_allows_of_an_open_visit_is_answered_as_it_tells(client, settings):
    """schemathesis writes the events; each names a visit of ours, so that all but their address counts."""
    limits = ("events_per_minute", "listener_events_per_minute", "address_events_per_minute")
    fast = dict.fromkeys(limits, 10**6)
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "PLAYER": {**SETTINGS["PLAYER"], **fast}}
    token = visit(client)
    document = openapi.document("/audience")
    sources = itertools.cycle([SOUND_ADDRESS, "/live.mp3", "/none.mp3"])
    statuses = collections.Counter()

    @hypothesis.settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @hypothesis.given(schemathesis.openapi.from_dict(document)[PLAYERS]["POST"].as_strategy(generation_mode=POSITIVE))
    def call(case: schemathesis.Case) -> None:
        answer = tell(client, {**case.body, "visit": token, "src": next(sources)}, kind=case.media_type)
        assert answer.status_code in (204, 404), (answer.content, case.body)
        statuses[answer.status_code] += 1

    call()
    assert set(statuses) == {204, 404}
    assert statuses[204] > statuses[404] > 10
    assert PlayerEvent.objects.exists()


def test_the_document_tells_what_a_visit_is(client):
    told = openapi.document("/audience")["paths"][PLAYERS]["get"]["responses"]["200"]
    schema = told["content"]["application/json"]["schema"]
    answer = client.get(ADDRESS).json()
    assert set(answer) == set(schema["required"])
    assert answer["expires_in"] == schema["properties"]["expires_in"]["examples"][0]


# Settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"streams": {"/x": "nowhere"}}, "no stream. Configured: live, low"),
        ({"events_per_minute": 0}, "expected 1 or more"),
        ({"listener_events_per_minute": 0}, "expected 1 or more"),
        ({"address_events_per_minute": 0}, "expected 1 or more"),
        ({"enable": True}, "Did you mean 'enabled'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_what_to_write(given, words):
    from aircox_listen_stats import conf

    with pytest.raises(ConfigurationError, match=words):
        conf.read({**SETTINGS, "PLAYER": given})


def test_the_request_itself_writes_no_visit(client):
    tell(client, event(visit(client)))
    assert not PlayerVisit.objects.exists()
