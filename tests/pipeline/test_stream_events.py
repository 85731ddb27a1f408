"""Stream events become what the same requests in a log become; sent twice, they count once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import (
    Connection,
    Coverage,
    DeadLetter,
    Inbox,
    Session,
    SourceState,
    StreamEvent,
)
from aircox_listen_stats.pipeline import (
    dead_letters,
    event_rows,
    ingest,
    lateness,
    retention,
    secrets,
    stream_events,
    streams,
)
from aircox_listen_stats.pipeline.collect import Collector
from aircox_listen_stats.sources import registry

from .conftest import HOUR, S
from .scripted import OneStation
from .shipping import ICECAST_LOG, NGINX_LOG, of_icecast, of_nginx

pytestmark = pytest.mark.django_db

NOW = 1_795_314_600_000
"""2026-11-22 02:30 UTC, just after the recorded runs."""

SETTINGS: dict[str, Any] = {
    "SOURCES": {
        "events": {"backend": "stream_events", "target_seconds": 3},
        "log": {"backend": "hls", "path": str(NGINX_LOG), "start_at": "beginning", "target_seconds": 3},
        "access": {"backend": "accesslog", "path": str(ICECAST_LOG), "start_at": "beginning"},
    },
    "STREAMS": {
        "hls": {"source": "events", "station": 1, "mount": "/hls/live.m3u8"},
        "live": {"source": "events", "station": 1, "mount": "/live.mp3"},
        "low": {"source": "events", "station": 1, "mount": "/low.mp3"},
        "hls-log": {"source": "log", "station": 1, "mount": "/hls/live.m3u8"},
        "live-log": {"source": "access", "station": 1, "mount": "/live.mp3"},
        "low-log": {"source": "access", "station": 1, "mount": "/low.mp3"},
    },
}

ICECAST: dict[str, Any] = {
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
END_MS = 1_795_312_120_000


@pytest.fixture(autouse=True)
def here(settings: Any, station_settings: None, db: None) -> None:
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    streams.sync(streams.station_by(OneStation()))


def the_source() -> Any:
    return registry.source(conf.get(), "events")


def take(events: Iterable[Any], now_ms: int = NOW) -> stream_events.Taken:
    return stream_events.take(the_source(), json.dumps(list(events)).encode(), most_events=100_000, now_ms=now_ms)


def collect(now_ms: int = NOW) -> None:
    """What the collector does with what waits."""
    for _ in range(1000):
        state = SourceState.objects.filter(pk="events").first()
        report = stream_events.report(the_source(), state.cursor if state else {}, now_ms=now_ms)
        ingest.store(report, now_ms=now_ms)
        if not report.more:
            return
    raise AssertionError("the Inbox is never empty")


def follow(name: str, now_ms: int = NOW) -> None:
    """What the collector does with a log."""
    source, cursor = registry.source(conf.get(), name), {}
    for _ in range(1000):
        report = source.pull(cursor, now_ms=now_ms)
        ingest.store(report, now_ms=now_ms)
        cursor = report.cursor
        if not report.more:
            return
    raise AssertionError("the log has no end")


def listened(slug: str) -> list[tuple[Any, ...]]:
    rows = Session.objects.filter(stream__slug=slug).values_list("listener", "started", "ended", "played_ms", "parts")
    return sorted((*row[:4], str(row[4])) for row in rows)


# The same as the logs --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [40, 997])
def test_hls_events_are_what_the_log_of_nginx_is_however_they_are_cut_into_batches(size: int) -> None:
    events = list(of_nginx())
    for start in range(0, len(events), size):
        assert take(events[start : start + size]).refused == 0
        collect()
    follow("log")
    assert len(listened("hls")) > 8
    assert listened("hls") == listened("hls-log")


def test_icecast_events_are_what_its_access_log_is() -> None:
    events = list(of_icecast())
    taken = take(events)
    assert (taken.refused, taken.accepted + sum(taken.ignored.values())) == (0, len(events))
    collect()
    follow("access")
    for slug in ("live", "low"):
        assert len(listened(slug)) > 5
        assert listened(slug) == listened(f"{slug}-log")


# Once ------------------------------------------------------------------------------------------------


def test_a_batch_that_is_sent_twice_counts_once_before_and_after_it_was_collected() -> None:
    events = [*of_icecast(), *of_nginx()]
    first = take(events)
    again = take(events)
    assert first.accepted > 400
    assert (again.accepted, again.duplicates) == (0, first.accepted)
    collect()
    before = [listened(slug) for slug in ("live", "low", "hls")]
    assert take(events[100:900]).accepted == 0  # cut otherwise
    collect()
    assert [listened(slug) for slug in ("live", "low", "hls")] == before
    assert StreamEvent.objects.count() == first.accepted
    assert SourceState.objects.get(pk="events").counts["duplicates"] > first.accepted


def test_two_that_nothing_tells_apart_are_two_in_one_batch_and_the_same_two_when_it_is_sent_again() -> None:
    assert take([ICECAST, ICECAST]).accepted == 2
    assert take([ICECAST, ICECAST]).duplicates == 2
    assert take([ICECAST]).duplicates == 1
    collect()
    assert Connection.objects.count() == 2


def test_an_event_is_the_same_when_it_is_told_after_the_secret_has_changed() -> None:
    """The broadcast day begins at 04:00 in Brussels, 03:00 UTC."""
    assert take([ICECAST]).accepted == 1
    tomorrow_ms = NOW + 2 * HOUR
    assert secrets.current(tomorrow_ms).started_ms > NOW
    assert take([ICECAST], tomorrow_ms).duplicates == 1


def test_who_listens_through_the_change_of_the_secret_is_one_session() -> None:
    change_ms = secrets.current(NOW + 2 * HOUR).started_ms
    secrets.forget()
    take([{**ICECAST, "time_end": (change_ms - 60 * S) / 1000}], change_ms - 50 * S)
    take([{**ICECAST, "time_end": (change_ms + 300 * S) / 1000, "seconds_connected": 200}], change_ms + 310 * S)
    collect(change_ms + 320 * S)
    assert [(row[1], row[2]) for row in listened("live")] == [
        (from_ms(change_ms - 355 * S), from_ms(change_ms + 300 * S))
    ]
    assert len(set(StreamEvent.objects.values_list("listener", flat=True))) == 2
    assert not Inbox.objects.exists()  # the only place that knew both keys


def test_an_event_of_before_the_last_secret_is_refused_since_it_could_not_be_known_again() -> None:
    taken = take([ICECAST], NOW + 50 * HOUR)
    assert [(one.field, one.reason) for one in taken.refusals] == [("time_end", "too_old")]


def test_another_process_that_takes_the_same_batch_at_the_same_moment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = event_rows.unknown
    lies = iter([True, False])

    def unknown(told: Any) -> Any:
        return list(told) if next(lies, False) else truth(told)

    take([ICECAST])
    monkeypatch.setattr(event_rows, "unknown", unknown)
    taken = take([ICECAST, {**ICECAST, "ip": "192.0.2.8"}])
    assert (taken.accepted, taken.duplicates) == (1, 1)
    assert StreamEvent.objects.count() == 2


# Live ------------------------------------------------------------------------------------------------


def test_who_stops_asking_for_segments_has_left_though_no_event_says_so(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"events": {"backend": "stream_events", "target_seconds": 4, "delay_seconds": 10}},
        "STREAMS": {"hls": {"source": "events", "station": 1, "mount": "/hls/"}},
    }
    streams.sync(streams.station_by(OneStation()))
    event = {**ICECAST, "origin": "hls", "seconds_connected": 0}
    take([{**event, "path": f"/hls/hi_{n}.ts", "time_end": (NOW + n * 4 * S) / 1000} for n in range(5)], NOW + 20 * S)
    collect(NOW + 20 * S)
    assert Session.objects.get().is_open
    assert lateness.knows_who_is_there("events", SourceState.objects.get(pk="events").cursor)
    collect(NOW + 40 * S)
    session = Session.objects.get()
    assert (session.is_open, to_ms(session.ended)) == (False, NOW + 20 * S)
    assert to_ms(Coverage.objects.get().ended) == NOW + 30 * S  # held back as long as the shipper may


@pytest.mark.django_db(transaction=True)
def test_the_collector_takes_what_waits_a_portion_at_a_time(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"events": SETTINGS["SOURCES"]["events"]},
        "STREAMS": {slug: entry for slug, entry in SETTINGS["STREAMS"].items() if entry["source"] == "events"},
    }
    take({**ICECAST, "ip": f"198.18.{n // 250}.{n % 250}"} for n in range(2_300))
    assert Inbox.objects.count() == 3
    collector = Collector(sources=registry.build(conf.get()), onair=OneStation(), clock=lambda: NOW)
    collector.step(now_ms=NOW)
    assert (Inbox.objects.count(), Connection.objects.count()) == (2, 1000)
    for seconds in (1, 2, 3):
        collector.step(now_ms=NOW + seconds * S)
    collector.close()
    assert (Inbox.objects.count(), Connection.objects.count()) == (0, 2_300)
    counts = SourceState.objects.get(pk="events").counts
    assert (counts["read"], counts["kept"]) == (2_300, 2_300)


def test_a_callback_under_this_sources_name_is_counted_and_harms_nothing() -> None:
    Inbox.objects.create(source="events", received=from_ms(NOW), payload={"action": "listener_add"})
    collect()
    assert SourceState.objects.get(pk="events").counts == {"read": 1, "refused_payload": 1}


# Nothing of anybody ----------------------------------------------------------------------------------

SECRETIVE = ("192.0.2.", "VLC/3", "token=", "hi_7", "/hls/", "/live", "visitor-5", "198.51.100.")
"""What no table may hold, whichever field it was sent in."""


def every_text() -> str:
    """All that is stored of events, as text."""
    told = []
    for model in (StreamEvent, DeadLetter, Inbox, Connection, SourceState):
        told += [str(row) for row in model.objects.values_list()]
    return "\n".join(told)


def test_no_address_agent_path_query_or_session_id_is_stored() -> None:
    hls = {**ICECAST, "origin": "hls", "path": "/hls/hi_7.ts?token=x", "session_id": "visitor-5"}
    wrong = [
        {**hls, name: value}
        for name in (*hls, "forwarded_for", "referer", "range", "time_start")
        for value in ("192.0.2.99", "198.51.100.7 VLC/3", {"ip": "192.0.2.1"}, "/hls/hi_7.ts?token=x", None)
    ]
    take([hls, ICECAST, *wrong, "192.0.2.1", ["VLC/3.0.20"], 3_221_226_000])
    assert DeadLetter.objects.count() > 30
    for word in (*SECRETIVE, "3221226000"):
        assert word not in every_text(), word
    collect()
    for word in SECRETIVE:
        assert word not in every_text(), word


def test_the_answer_quotes_no_value() -> None:
    taken = take([{**ICECAST, "status": "192.0.2.7 says Hi"}, {**ICECAST, "ip": ""}])
    assert [(one.index, one.field, one.value, one.reason) for one in taken.refusals] == [
        (0, "status", "999.9.9.9 aaaa Aa", "wrong"),
        (1, "ip", "", "wrong"),
    ]


def test_of_a_referrer_the_host_alone_comes_as_far_as_the_session() -> None:
    page = "https://radio.example/page-of-anna?mail=anna"
    segments = [
        {**ICECAST, "origin": "hls", "path": f"/hls/hi_{number}.ts", "referer": page, "session_id": "visitor-5"}
        for number in (7, 8)
    ]
    take([{**ICECAST, "referer": page}, {**ICECAST, "ip": "198.51.100.8", "referer": ""}, *segments])
    collect()
    assert sorted(StreamEvent.objects.values_list("referrer", flat=True)) == ["-", *["radio.example"] * 3]
    assert sorted(Session.objects.values_list("referrer", flat=True)) == ["-", "radio.example", "radio.example"]
    assert "anna" not in every_text()


# Dead letters ----------------------------------------------------------------------------------------


def test_a_bad_event_costs_no_other_and_is_kept_once() -> None:
    wrong = {**ICECAST, "status": "2OO"}
    for _ in range(2):
        taken = take([wrong, ICECAST])
        assert (taken.refused, taken.received) == (1, 2)
    letter = DeadLetter.objects.get()
    assert (letter.index, letter.field, letter.value, letter.reason) == (0, "status", "9AA", "wrong")
    assert StreamEvent.objects.count() == 1


@pytest.mark.parametrize("field", ["origin", "method", "path", "status", "time_end", "seconds_connected"])
def test_a_mended_letter_is_the_same_event_as_the_right_one(field: str) -> None:
    """So who mends a letter, and a shipper that sends the right event later, count it once."""
    hls = {**ICECAST, "origin": "hls", "path": "/hls/hi_7.ts", "session_id": "visitor-5"}
    for right in (ICECAST, hls):
        take([{**right, field: [None]}])
        letter = DeadLetter.objects.get()
        assert dead_letters.mend(the_source(), letter, {field: str(right[field])}, now_ms=NOW) is None
        letter.save()
        replayed = dead_letters.replay(the_source(), [letter], now_ms=NOW)
        assert replayed == dead_letters.Replayed(accepted=1)
        assert not DeadLetter.objects.exists()
        assert take([right]).duplicates == 1


def test_a_letter_is_not_told_again_once_the_right_event_is_forgotten() -> None:
    take([{**ICECAST, "status": "2OO"}])
    take([ICECAST])
    collect()
    letter = DeadLetter.objects.get()
    assert dead_letters.mend(the_source(), letter, {"status": "200"}, now_ms=NOW) is None
    letter.save()
    known_ms = END_MS + conf.get().keep_events_days * 24 * HOUR
    retention.prune(now_ms=known_ms)
    told = dead_letters.replay(the_source(), [letter], now_ms=known_ms, dry_run=True)
    assert told == dead_letters.Replayed(duplicates=1)
    retention.prune(now_ms=known_ms + 1)
    assert not StreamEvent.objects.exists()
    still = dead_letters.mend(the_source(), letter, {"status": "200"}, now_ms=known_ms + 1)
    assert still is not None
    assert (still.field, still.reason) == ("time_end", "too_old")
    assert dead_letters.replay(the_source(), [letter], now_ms=known_ms + 1) == dead_letters.Replayed(too_old=1)
    collect(known_ms + 1)
    assert Session.objects.count() == 1
    assert DeadLetter.objects.exists()


def test_a_letter_is_mended_only_with_keys_of_the_period_in_which_it_ended() -> None:
    """The broadcast day begins at 04:00 in Brussels, 03:00 UTC. Under another secret it would be another event."""
    visitor = {**ICECAST, "origin": "hls", "path": "/hls/hi_7.ts", "session_id": "visitor-5"}
    take([{**ICECAST, "ip": "192.0.2.700"}, {**visitor, "session_id": [5]}])
    take([ICECAST, visitor])
    letters = dict(zip(("ip", "session_id"), DeadLetter.objects.order_by("index"), strict=True))
    agent = {"user_agent": ICECAST["user_agent"]}
    mended = {"ip": {"ip": ICECAST["ip"], **agent}, "session_id": {"session_id": "visitor-5"}}
    for now_ms, error in ((NOW + 24 * HOUR, None), (NOW + 25 * HOUR, "too_old")):
        for field, letter in letters.items():
            still = dead_letters.mend(the_source(), letter, mended[field], now_ms=now_ms)
            assert (still and still.reason) == error, field
            told = dead_letters.replay(the_source(), [letter], now_ms=now_ms, dry_run=True)
            assert told == dead_letters.Replayed(too_old=1) if error else dead_letters.Replayed(duplicates=1)


def test_a_letter_without_its_time_is_not_mended_to_the_day_before_it_came() -> None:
    take([ICECAST])
    tomorrow_ms = NOW + HOUR
    take([{**ICECAST, "time_end": "then"}], tomorrow_ms)
    letter = DeadLetter.objects.get()
    still = dead_letters.mend(the_source(), letter, {"time_end": ICECAST["time_end"]}, now_ms=tomorrow_ms)
    assert still is not None
    assert (still.field, still.reason) == ("time_end", "too_old")
    assert dead_letters.replay(the_source(), [letter], now_ms=tomorrow_ms) == dead_letters.Replayed(too_old=1)


def test_a_letter_whose_address_was_wrong_is_mended_with_another_that_is_not_stored() -> None:
    take([{**ICECAST, "ip": "192.0.2.700"}])
    letter = DeadLetter.objects.get()
    assert dead_letters.replay(the_source(), [letter], now_ms=NOW).refused == 1
    values = {"ip": "192.0.2.7", "user_agent": ICECAST["user_agent"]}
    assert dead_letters.mend(the_source(), letter, values, now_ms=NOW) is None
    letter.save()
    assert "192.0.2" not in str(letter.event)
    dead_letters.replay(the_source(), [letter], now_ms=NOW)
    assert take([ICECAST]).duplicates == 1


def test_a_wrong_mend_says_what_is_wrong_now_and_a_dry_run_changes_nothing() -> None:
    take([{**ICECAST, "status": "x"}, {**ICECAST, "ip": "192.0.2.9", "status": "y"}])
    one, other = DeadLetter.objects.order_by("index")
    still = dead_letters.mend(the_source(), one, {"status": "many"}, now_ms=NOW)
    assert still is not None
    assert (still.field, still.reason, one.value) == ("status", "wrong", "aaaa")
    with pytest.raises(dead_letters.UnknownField, match="statsu"):
        dead_letters.mend(the_source(), one, {"statsu": "200"}, now_ms=NOW)
    assert dead_letters.mend(the_source(), other, {"status": "404"}, now_ms=NOW) is None
    told = dead_letters.replay(the_source(), [one, other], now_ms=NOW, dry_run=True)
    assert told == dead_letters.Replayed(ignored=1, refused=1)
    assert DeadLetter.objects.count() == 2
    assert not StreamEvent.objects.exists()


def test_letters_have_room_for_so_many_of_a_source(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "INGEST": {"max_dead_letters": 3}}
    taken = take({**ICECAST, "status": f"x{n}", "bytes_sent": n} for n in range(5))
    assert (taken.refused, DeadLetter.objects.count()) == (5, 3)


def test_an_answer_lists_the_first_refusals_and_counts_the_others() -> None:
    taken = take([None] * 250)
    assert (taken.refused, len(taken.refusals), taken.refusals_left_out) == (250, 100, 150)


# Retention -------------------------------------------------------------------------------------------


def test_events_and_letters_go_when_they_are_old() -> None:
    take([ICECAST, None])
    collect()
    keep = conf.get()
    day_ms = 24 * HOUR
    assert retention.prune(now_ms=END_MS + keep.keep_events_days * day_ms - 1).events == 0
    assert retention.prune(now_ms=END_MS + keep.keep_events_days * day_ms + 1, dry_run=True).events == 1
    assert retention.prune(now_ms=END_MS + keep.keep_events_days * day_ms + 1).events == 1
    assert DeadLetter.objects.exists()
    assert retention.prune(now_ms=NOW + keep.keep_dead_letters_days * day_ms + 1).dead_letters == 1
    assert not StreamEvent.objects.exists()
    assert not DeadLetter.objects.exists()


# Who tells nothing -----------------------------------------------------------------------------------


def test_nobody_is_taken_to_have_left_once_nothing_was_told_for_hours_and_an_empty_batch_is_a_word() -> None:
    hls = {**ICECAST, "origin": "hls", "path": "/hls/hi_7.ts", "seconds_connected": 0, "time_end": NOW / 1000}
    take([hls])
    collect()
    collect(NOW + 9 * HOUR)
    heard = SourceState.objects.get(pk="events").heard
    assert heard == from_ms(NOW + 6 * HOUR)
    collect(NOW + 12 * HOUR)
    assert SourceState.objects.get(pk="events").heard == heard
    take([], NOW + 12 * HOUR)
    collect(NOW + 12 * HOUR)
    assert SourceState.objects.get(pk="events").heard > heard
