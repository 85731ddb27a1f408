"""Stream events: what they say, what is wrong with those that are refused, and what is no listening."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.sources import stream_events
from aircox_listen_stats.sources.stream_events import (
    EXPECTED,
    FIELDS,
    BadField,
    Event,
    NoList,
    StreamEventsSource,
    Told,
    decode,
    instant_of,
)

FOLDER = Path(__file__).parent.parent / "data" / "stream_events"
BATCH: list[dict[str, Any]] = json.loads((FOLDER / "batch.json").read_text())
MALFORMED: list[dict[str, Any]] = json.loads((FOLDER / "malformed.json").read_text())
STREAMS = {"/live.mp3": "live", "/hls/live.m3u8": "live-hls"}
OPTIONS = {"target_seconds": 4}
NOW_MS = 1_795_312_400_250
END_MS = 1_795_312_120_000
"""22/Nov/2026:01:48:40 +0000."""


def source(**options: Any) -> StreamEventsSource:
    return StreamEventsSource("events", STREAMS, {**OPTIONS, **options})


def said(event: Any) -> Any:
    """What the event is kept as, or why it is not."""
    (one,) = decode(json.dumps([event]).encode())
    if not isinstance(one, Event):
        raise one[0]
    request, reason = source().request(one, now_ms=NOW_MS)
    source().address_of(one)
    return request or reason


def test_the_stamp_is_the_end_of_the_connection() -> None:
    request = said(BATCH[0])
    assert (request.started_ms, request.ended_ms) == (END_MS - 295_000, END_MS)
    assert (request.stream, request.origin, request.bytes_sent) == ("live", "icecast", 4_751_360)


def test_stamps_may_be_of_a_log_of_iso_8601_or_seconds_and_quoted() -> None:
    stamps = ("22/Nov/2026:02:48:40 +0100", "2026-11-22T01:48:40Z", "2026-11-21T20:48:40-05:00", 1795312120)
    stamps += ("1795312120", "1795312120.000", 1795312120.0)
    assert {instant_of(stamp, "time_end") for stamp in stamps} == {END_MS}
    assert instant_of("1795312120.512", "time_end") == END_MS + 512


def test_a_start_alone_tells_the_duration_too() -> None:
    event = {name: value for name, value in BATCH[0].items() if name != "seconds_connected"}
    assert said(event) == said(BATCH[0])


@pytest.mark.parametrize(
    ("index", "kept"),
    [(2, ("hi", 95)), (3, ("", None)), (4, ("lo", 95)), (5, "page"), (6, "playlist")],
)
def test_a_segment_a_master_playlist_and_what_is_no_listening(index: int, kept: Any) -> None:
    found = said(BATCH[index])
    assert (found if isinstance(found, str) else (found.rendition, found.number)) == kept


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"method": "HEAD"}, "method"),
        ({"method": "SOURCE"}, "source_client"),
        ({"status": 404}, "status_404"),
        ({"bytes_sent": 0}, "nothing_sent"),
        ({"path": "/live.mp3.m3u"}, "playlist"),
        ({"path": "/other.mp3"}, "other_mount"),
        ({"path": "/admin/metadata"}, "admin_page"),
        ({"origin": "hls"}, "other_path"),
    ],
)
def test_what_is_no_listening_is_named_and_not_refused(changed: dict[str, Any], reason: str) -> None:
    assert said({**BATCH[0], **changed}) == reason


def test_a_probe_of_a_segment_is_no_listening() -> None:
    assert said({**BATCH[2], "status": 206, "range": "bytes=0-1", "bytes_sent": 2}) == "probe"


def test_a_query_ends_with_the_path_but_its_session_id_is_used() -> None:
    event = decode(json.dumps(BATCH[3:4]).encode())[0]
    assert isinstance(event, Event)
    assert source().session_of(event) == "abc"
    assert said({**BATCH[0], "path": "/live.mp3?token=secret"}) == said(BATCH[0])


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: f"{case['field']}-{case['reason']}")
def test_a_malformed_event_is_refused_by_field_and_reason(case: dict[str, Any]) -> None:
    with pytest.raises(BadField) as caught:
        pytest.fail(f"taken as {said(case['event'])}")
    assert (caught.value.field, caught.value.reason) == (case["field"], case["reason"])


def test_every_field_that_can_be_wrong_has_its_words() -> None:
    assert {case["field"] for case in MALFORMED} <= {*EXPECTED, "user_agent", "session_id", "completion"}
    assert set(EXPECTED) - {""} <= set(FIELDS)


def test_one_wrong_event_costs_no_other() -> None:
    told = decode(json.dumps([BATCH[0], *(case["event"] for case in MALFORMED), BATCH[1]]).encode())
    assert len(told) == len(MALFORMED) + 2
    assert isinstance(told[0], Event)
    assert isinstance(told[-1], Event)


def test_an_agent_that_is_no_unicode_costs_nothing() -> None:
    written = json.dumps(BATCH[:2]).encode()
    latin = written.replace(b"Winamp", b"W\xefnamp")
    halved = written.replace(b"Winamp", b"W\\ud800namp")
    for body in (latin, halved):
        told = decode(body)
        assert [type(one) for one in told] == [Event, Event]


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"null", b'"[]"', b"[1,", b"[NaN]", b"[" * 200_000, b"\xff\xfe[]"])
def test_what_is_no_list_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(NoList):
        decode(body)


@given(st.binary(max_size=200) | st.builds(lambda told: json.dumps(told).encode(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), part),
)))  # fmt: skip
def test_no_body_breaks_the_parser(body: bytes) -> None:
    """Fuzzed: nothing but the two documented errors comes out."""
    try:
        told = decode(body)
    except NoList:
        return
    for one in told:
        if isinstance(one, Event):
            _examine(one)


@given(st.fixed_dictionaries(
    {
        "origin": st.sampled_from(["hls", "icecast"]),
        "ip": st.ip_addresses().map(str) | st.text(),
        "method": st.sampled_from(["GET", "HEAD"]) | st.text(),
        "path": st.text().map(lambda text: f"/hls/{text}") | st.sampled_from(["/live.mp3", "/hls/hi_1.ts"]),
        "status": st.integers(100, 599),
        "time_end": st.floats() | st.integers() | st.text() | st.datetimes().map(str),
    },
    optional={
        "time_start": st.text() | st.integers(),
        "seconds_connected": st.floats(0, 1e6),
        "bytes_sent": st.integers(0, 2**62),
        "range": st.text() | st.just("bytes=0-1"),
        "forwarded_for": st.text(),
        "session_id": st.text(),
    },
))  # fmt: skip
def test_no_event_breaks_its_reading(fields: dict[str, Any]) -> None:
    _examine(Event(**fields))


def _examine(event: Event) -> None:
    tested = source()
    try:
        request, reason = tested.request(event, now_ms=NOW_MS)
        tested.address_of(event)
    except BadField as error:
        refused = error.field
    else:
        refused = None
    if refused is not None:
        assert refused in EXPECTED
        return
    assert (request is None) == bool(reason)
    tested.session_of(event)


def test_a_mount_is_looked_for_among_those_of_its_origin() -> None:
    tested = source()
    assert set(tested.mounts.values()) == {"live"}
    assert [group.stream for group in tested.groups] == ["live-hls"]
    assert not tested.follows_open_sessions
    assert StreamEventsSource("events", {"/hls/": "live-hls"}, OPTIONS).follows_open_sessions


def test_hls_needs_the_target_duration_and_icecast_does_not() -> None:
    StreamEventsSource("events", {"/live.mp3": "live"}, {})
    with pytest.raises(ConfigurationError, match="target_seconds"):
        source(target_seconds=0)
    with pytest.raises(ConfigurationError, match="delay_seconds"):
        source(delay_seconds=-1)


def test_who_is_silent_has_left_but_for_good_nobody() -> None:
    """Of HLS a census tells, made of who has asked; Icecast alone, where each connection is over, has none."""
    tested = source()
    segments = [{**BATCH[2], "path": f"/hls/hi_{n}.ts", "time_end": END_MS / 1000 + 4 * n} for n in (0, 1)]
    requests = [tested.request(Event(**{**one, "origin": "hls"}), now_ms=NOW_MS)[0] for one in segments]
    told = [
        Told(key=number, request=request, who=stream_events.Address(ip="192.0.2.7"))
        for number, request in enumerate(requests)
        if request is not None
    ]
    report = tested.hear(told, {}, now_ms=END_MS + 6000)
    assert report.census is not None
    assert (report.census.streams, report.census.by_silence) == (frozenset({"live-hls"}), True)
    assert report.census.at_ms == END_MS
    (heard,) = report.observations
    assert (heard.ended, heard.rendition, heard.delivered_ms) == (False, "hi", 8000)
    alone = StreamEventsSource("events", {"/live.mp3": "live"}, {})
    assert alone.hear([], {}, now_ms=NOW_MS).census is None


def test_a_forwarded_address_is_believed_of_trusted_proxies_alone() -> None:
    event = Event(**{**BATCH[0], "forwarded_for": "192.0.2.99, 198.51.100.7"})
    believing = StreamEventsSource("events", STREAMS, OPTIONS, trusted_proxies=["192.0.2.7"])
    assert source().address_of(event)[0].ip == "192.0.2.7"
    assert believing.address_of(event)[0].ip == "198.51.100.7"
    alone = Event(**{**BATCH[0], "forwarded_for": "-"})
    assert believing.address_of(alone) == (stream_events.Address(ip="192.0.2.7", agent=alone.user_agent or ""), False)


def test_the_path_that_is_made_of_a_stream_leads_back_to_it() -> None:
    tested = source()
    for index in (0, 2, 3, 4):
        event = Event(**{**BATCH[index], "path": BATCH[index]["path"].partition("?")[0]})
        part, _ = tested.place(event)
        assert part is not None
        assert tested.path_of(part.stream, part.rendition, part.number) == event.path
    assert tested.path_of("gone", "", None) == ""


def test_what_is_no_unicode_may_stand_beside_what_is_no_event() -> None:
    """The list is then read event by event, and none of them may bring the others down."""
    whole = json.dumps({**BATCH[0], "user_agent": "?"}).encode().replace(b"?", b"\xef")
    first, second, third = decode(b'[7,"\xef",' + whole + b"]")
    for refused in (first, second):
        assert isinstance(refused, tuple)
        json.loads(refused[1])
    assert not isinstance(third, tuple)
    assert third.user_agent == "\N{REPLACEMENT CHARACTER}"
