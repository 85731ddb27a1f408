"""Stream events over HTTP: who may send and read them, what is too much, and what the answers say."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
import time
import tracemalloc
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import AsyncClient, Client
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import DeadLetter, Inbox, IngestToken, StreamEvent
from aircox_listen_stats.pipeline import event_rows, recognise, secrets, tokens
from aircox_listen_stats.reports import stream_events as report
from aircox_listen_stats.web import stream_events

pytestmark = pytest.mark.django_db

SETTINGS: dict[str, Any] = {
    "SOURCES": {
        "events": {"backend": "stream_events", "target_seconds": 4},
        "other": {"backend": "stream_events"},
        "ice": {"backend": "icecast", "url": "http://127.0.0.1:9", "user": "admin", "password": "x"},
    },
    "STREAMS": {
        "live": {"source": "events", "station": 1, "mount": "/live.mp3"},
        "low": {"source": "events", "station": 1, "mount": "/low.mp3"},
    },
}
NOW = 1_795_312_400_250
EVENT: dict[str, Any] = {
    "origin": "icecast",
    "ip": "192.0.2.7",
    "method": "GET",
    "path": "/live.mp3",
    "status": 200,
    "bytes_sent": 4_751_360,
    "user_agent": "VLC/3.0.20",
    "time_end": "22/Nov/2026:01:48:40 +0000",
    "seconds_connected": 295,
}
MINUTE_MS = 60_000
BOUND_SECONDS = 60
"""For what takes no time unless it hangs."""


@pytest.fixture(autouse=True)
def here(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    monkeypatch.setattr(stream_events, "wall_ms", lambda: NOW)
    for one in (secrets, recognise):
        one.forget()
    stream_events.token_pace.forget()
    yield
    for one in (secrets, recognise):
        one.forget()


def made(*scopes: str, source: str = "events", now_ms: int = NOW) -> str:
    return tokens.create(name="shipper", source=source, scopes=scopes or tokens.SCOPES, now_ms=now_ms)[1]


def post(body: Any, token: str = "", **headers: Any) -> Any:
    told = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content_type": "application/json", "headers": {"Authorization": f"Token {token}"}} | headers
    return Client(enforce_csrf_checks=True).post(reverse("listen_stats:ingest_stream_events"), told, **given)


def get(token: str, address: str = "", **query: Any) -> Any:
    return Client().get(
        address or reverse("listen_stats:stream_events"), query, headers={"Authorization": f"Token {token}"}
    )


def read(response: Any) -> Any:
    return json.loads(response.getvalue() if response.streaming else response.content)


# Taking ----------------------------------------------------------------------------------------------


def test_a_batch_is_answered_with_what_became_of_each_event() -> None:
    wrong = {**EVENT, "status": "2OO"}
    response = post([EVENT, EVENT, wrong, {**EVENT, "method": "HEAD"}], made())
    assert response.status_code == 207
    assert read(response) == {
        "received": 4,
        "accepted": 2,
        "duplicates": 0,
        "ignored": {"method": 1},
        "refused": 1,
        "refusals": [
            {
                "index": 2,
                "field": "status",
                "value": "9AA",
                "reason": "wrong",
                "expected": "a status from 100 to 599",
            }
        ],
        "refusals_left_out": 0,
    }
    assert (StreamEvent.objects.count(), DeadLetter.objects.count()) == (2, 1)


def test_a_batch_without_a_refusal_is_200_and_sent_again_all_duplicates() -> None:
    token = made()
    assert post([EVENT], token).status_code == 200
    again = read(post([EVENT], token))
    assert (again["accepted"], again["duplicates"]) == (0, 1)
    assert read(post([], token))["received"] == 0


@pytest.mark.parametrize("body", [b" ", b"{}", b"null", b"[", b"<html>", b"\xff"])
def test_a_body_that_is_no_list_is_400(body: bytes) -> None:
    response = post(body, made())
    assert response.status_code == 400
    assert "JSON list" in read(response)["error"]


def test_gzip_is_taken_in_several_members_too() -> None:
    told = json.dumps([EVENT] * 3).encode()
    packed = gzip.compress(told[:50]) + gzip.compress(told[50:])
    headers = {"Authorization": f"Token {made()}", "Content-Encoding": "gzip"}
    assert read(post(packed, headers=headers))["accepted"] == 3
    assert post(packed[:-9], headers=headers).status_code == 400
    assert post(told, headers=headers).status_code == 400


def test_a_small_gzip_of_a_huge_body_is_413_and_never_unpacked(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "INGEST": {"max_inflated_bytes": 100_000}}
    packed = gzip.compress(b" " * 200_000_000)
    headers = {"Authorization": f"Token {made()}", "Content-Encoding": "gzip"}
    tracemalloc.start()
    try:
        assert post(packed, headers=headers).status_code == 413
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_too_many_bytes_and_too_many_events_are_413_and_nothing_of_them_is_stored(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "INGEST": {"max_bytes": 3_000, "max_events": 5}}
    token = made()
    assert post([EVENT] * 20, token).status_code == 413
    small = [{name: value for name, value in EVENT.items() if name != "user_agent"}] * 6
    response = post(small, token)
    assert response.status_code == 413
    assert "5 at most" in read(response)["error"]
    assert not StreamEvent.objects.exists()
    assert post(small[:5], token).status_code == 200


def test_a_batch_larger_than_djangos_own_limit_is_taken() -> None:
    """DATA_UPLOAD_MAX_MEMORY_SIZE is 2.5 MB, a batch of 10,000 events more."""
    padded = {**EVENT, "referer": "x" * 3_000}
    assert read(post([padded] * 1_000, made()))["accepted"] == 1_000


@pytest.mark.parametrize(
    "headers",
    [{"content_type": "text/csv"}, {"content_type": "application/x-ndjson"}, {"HTTP_CONTENT_ENCODING": "br"}],
)
def test_other_types_and_encodings_are_415(headers: dict[str, str]) -> None:
    assert post([EVENT], made(), **headers).status_code == 415


def test_other_methods_are_405_and_name_the_one() -> None:
    token = made()
    response = Client().get(reverse("listen_stats:ingest_stream_events"), headers={"Authorization": f"Token {token}"})
    assert (response.status_code, response["Allow"]) == (405, "POST")


def test_a_database_that_takes_nothing_is_503_with_a_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def locked(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the row 192.0.2.7 is locked")

    monkeypatch.setattr(event_rows, "_insert", locked)
    caplog.set_level(logging.DEBUG)
    response = post([EVENT], made())
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert "192.0.2" not in caplog.text + response.content.decode()


# Who -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["", "Token", "Token ", "Token als_wrong", "Basic dXNlcjpwYXNz", "Token " + "x" * 999]
)
def test_no_token_or_a_wrong_one_is_401_and_is_not_told(header: str, caplog: pytest.LogCaptureFixture) -> None:
    response = post([EVENT], headers={"Authorization": header})
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Token")
    assert "als_wrong" not in response.content.decode() + caplog.text


def test_a_token_is_kept_as_a_hash() -> None:
    token = made()
    row = IngestToken.objects.get()
    assert token.startswith(row.prefix)
    assert token not in str(IngestToken.objects.values_list()[0])
    assert len(token) > 40


def test_each_scope_opens_its_own_door() -> None:
    assert post([EVENT], made("read")).status_code == 403
    assert get(made("ingest")).status_code == 403
    assert get(made("read")).status_code == 200


@pytest.mark.parametrize("source", ["gone", "ice"])
def test_a_token_of_a_source_that_takes_no_events_is_403(source: str) -> None:
    response = post([EVENT], made(source=source))
    assert response.status_code == 403
    assert source in read(response)["error"]


def test_a_revoked_token_is_nobodys_at_once() -> None:
    token = made()
    assert post([EVENT], token).status_code == 200
    tokens.revoke(IngestToken.objects.get(), now_ms=NOW)
    assert post([EVENT], token).status_code == 401


def test_after_a_rotation_both_are_good_until_the_grace_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    old = made()
    _, new = tokens.rotate(IngestToken.objects.get(), grace_ms=MINUTE_MS, now_ms=NOW)
    assert [post([EVENT], one).status_code for one in (old, new)] == [200, 200]
    monkeypatch.setattr(stream_events, "wall_ms", lambda: NOW + MINUTE_MS)
    assert [post([EVENT], one).status_code for one in (old, new)] == [401, 200]


def test_the_last_use_is_written_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    token = made()
    seen = []
    for later_ms in (0, 30_000, 59_999, 60_000, 100_000):
        monkeypatch.setattr(stream_events, "wall_ms", lambda later_ms=later_ms: NOW + later_ms)
        post([], token)
        seen.append(to_ms(IngestToken.objects.get().used) - NOW)
    assert seen == [0, 0, 0, 60_000, 60_000]


def test_too_many_requests_are_429_with_a_time_and_of_this_token_alone(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "INGEST": {"requests_per_minute": 2}}
    token, other = made(), made()
    assert [post([], token).status_code for _ in range(3)] == [200, 200, 429]
    assert post([], token)["Retry-After"] == "30"
    assert post([], other).status_code == 200
    monkeypatch.setattr(stream_events, "wall_ms", lambda: NOW + 30_000)
    assert [post([], token).status_code for _ in range(2)] == [200, 429]


# Reading ---------------------------------------------------------------------------------------------


def stored(count: int, token: str) -> None:
    ended_s = 1_795_312_120
    post([{**EVENT, "ip": f"198.18.{n // 250}.{n % 250}", "time_end": ended_s + n % 60} for n in range(count)], token)


def test_an_event_is_read_back_without_whatever_told_who_it_was() -> None:
    token = made()
    post([EVENT], token)
    (one,) = read(get(token))["results"]
    assert {name: one[name] for name in ("source", "stream", "origin", "status", "method", "bytes_sent", "app")} == {
        "source": "events",
        "stream": "live",
        "origin": "icecast",
        "status": 200,
        "method": "GET",
        "bytes_sent": 4_751_360,
        "app": "VLC",
    }
    assert (one["time_start"], one["time_end"]) == ("2026-11-22T01:43:45.000Z", "2026-11-22T01:48:40.000Z")
    assert one["seconds_connected"] == 295
    assert len(one["listener"]) == 16
    assert not {"192.0.2", "VLC/3", "/live.mp3"} & set(json.dumps(one).split('"'))


@pytest.mark.parametrize("limit", [1, 7, 50, 99, 100, 1000])
def test_following_next_until_it_is_null_brings_each_event_once(limit: int) -> None:
    token = made()
    stored(100, token)
    found: list[int] = []
    page = read(get(token, limit=limit))
    for _ in range(101):
        found += [one["id"] for one in page["results"]]
        assert len(page["results"]) <= limit
        if page["next"] is None:
            break
        page = read(get(token, page["next"]))
    assert found == sorted(StreamEvent.objects.values_list("pk", flat=True))
    assert read(get(token, cursor=page["cursor"]))["results"] == []


def test_a_page_is_of_a_stream_and_a_window_and_next_keeps_asking_so() -> None:
    token = made()
    stored(60, token)
    post([{**EVENT, "path": "/low.mp3"}], token)
    asked = {"from": "2026-11-22T01:48:50Z", "to": "2026-11-22T02:49:00+01:00", "stream": "live", "limit": 4}
    page = read(get(token, **asked))
    again = read(get(token, page["next"]))
    ends = [one["time_end"][17:19] for one in page["results"] + again["results"]]
    assert ends == ["50", "51", "52", "53", "54", "55", "56", "57"]
    assert len(read(get(token, stream="low"))["results"]) == 1
    assert read(get(token, stream="nobody"))["results"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "x"},
        {"limit": "100001"},
        {"cursor": "-1"},
        {"cursor": "9" * 19},
        {"from": "noon"},
        {"to": "2026-13-01"},
    ],
)
def test_a_parameter_that_is_none_is_400(query: dict[str, str]) -> None:
    assert get(made(), **query).status_code == 400


def test_a_reader_of_one_source_sees_no_other_and_one_without_sees_all(settings: Any) -> None:
    post([EVENT], made())
    StreamEvent.objects.update(source="other")
    post([{**EVENT, "ip": "192.0.2.8"}], made())
    assert len(read(get(made("read")))["results"]) == 1
    assert len(read(get(made("read", source="")))["results"]) == 2


@pytest.mark.django_db(transaction=True)
def test_a_reader_misses_no_event_of_a_portion_that_is_long_in_being_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids are given to it before those of a portion that would be done sooner."""
    token = made()
    insert, is_written, goes_on = event_rows._insert, threading.Event(), threading.Event()

    def slow(new: Any) -> None:
        insert(new)
        if len(new) == 2:
            is_written.set()
            assert goes_on.wait(BOUND_SECONDS)

    def send(*events: dict[str, Any]) -> threading.Thread:
        def run() -> None:
            assert post(list(events), token).status_code == 200
            connection.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    monkeypatch.setattr(event_rows, "_insert", slow)
    first = send(EVENT, {**EVENT, "ip": "192.0.2.8"})
    try:
        assert is_written.wait(BOUND_SECONDS)
        second = send({**EVENT, "ip": "192.0.2.9"})
        until = time.monotonic() + BOUND_SECONDS
        while connection.vendor == "postgresql" and second.is_alive() and not somebody_waits_for_a_turn():
            assert time.monotonic() < until
            time.sleep(0.01)
        page = read(get(token))
    finally:
        goes_on.set()
    first.join(BOUND_SECONDS)
    second.join(BOUND_SECONDS)
    found = [one["id"] for one in (*page["results"], *read(get(token, cursor=page["cursor"]))["results"])]
    assert StreamEvent.objects.count() == 3
    assert found == sorted(StreamEvent.objects.values_list("pk", flat=True))


def somebody_waits_for_a_turn() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_portion_whose_turn_does_not_come_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    token = made()
    is_sqlite = connection.vendor == "sqlite"  # who waits for any other writer, as long as its own timeout says
    monkeypatch.setattr(event_rows, "TURN_SECONDS", 0.05)
    goes_on, is_held = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Inbox.objects.create(source="events", received=from_ms(NOW), payload={})
            event_rows._wait_for_turn()
            is_held.set()
            assert goes_on.wait(BOUND_SECONDS)
        connection.close()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        assert is_held.wait(BOUND_SECONDS)
        if is_sqlite:
            connection.cursor().execute("PRAGMA busy_timeout = 50")
        response = post([EVENT], token)
    finally:
        goes_on.set()
        if is_sqlite:
            connection.cursor().execute(f"PRAGMA busy_timeout = {BOUND_SECONDS * 1000}")
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    thread.join(BOUND_SECONDS)
    assert post([EVENT], token).status_code == 200


def test_a_page_is_streamed_a_chunk_at_a_time() -> None:
    """Whatever is asked for, one chunk of it is in memory."""
    token = made()
    stored(2_500, token)
    response = get(token, limit=20_000)
    sizes = [len(piece) for piece in response.streaming_content]
    assert len(sizes) == 5
    assert max(sizes) < report.CHUNK * 600


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_page_is_streamed_too() -> None:
    token = made()
    stored(1_200, token)

    async def pieces() -> list[bytes]:
        response = await AsyncClient().get(
            reverse("listen_stats:stream_events"), {"limit": "20000"}, headers={"Authorization": f"Token {token}"}
        )
        return [piece async for piece in response.streaming_content]

    found = asyncio.run(pieces())
    assert len(found) == 4
    assert len(json.loads(b"".join(found))["results"]) == 1_200


def test_the_limits_are_settings_and_refuse_nonsense(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "INGEST": {"max_events": 0}}
    with pytest.raises(conf.ConfigurationError, match="max_events"):
        conf.get()
