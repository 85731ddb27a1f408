"""What a live view shows, and when it becomes unknown."""

from __future__ import annotations

import json

import pytest

from aircox_listen_stats.errors import MalformedRecord
from aircox_listen_stats.web import frames
from aircox_listen_stats.web.frames import View
from tests.web.live_station import LiveStation

AT_MS = 1_795_341_600_000
STATION = LiveStation(id=1, slug="campus", since_ms=AT_MS)


def frame(listeners: int | None = 42, stale_after_ms: int = 60_000) -> frames.Frame:
    return frames.from_message(STATION.message(listeners, at_ms=AT_MS, stale_after_ms=stale_after_ms))


@pytest.mark.parametrize(("after_ms", "listeners"), [(0, 42), (59_999, 42), (60_000, None), (86_400_000, None)])
@pytest.mark.parametrize("view", View)
def test_a_count_is_unknown_from_the_instant_it_is_stale(view, after_ms, listeners):
    assert frame().shown(view, now_ms=AT_MS + after_ms)["listeners"] == listeners


def test_a_stale_frame_keeps_the_last_instant_that_was_known():
    assert frame().shown(View.PUBLIC, now_ms=AT_MS + 90_000)["at"] == "2026-11-22T10:00:00.000Z"


def test_a_stale_frame_tells_the_staff_neither_streams_nor_countries_nor_apps():
    shown = frame().shown(View.STAFF, now_ms=AT_MS + 60_000)
    assert [stream["listeners"] for stream in shown["streams"]] == [None]
    assert shown["countries"] == shown["apps"] == []


@pytest.mark.parametrize(("after_ms", "title"), [(599_999, "Morgenröte"), (600_000, None)])
def test_what_is_on_air_stays_in_a_stale_frame_until_its_announced_end(after_ms, title):
    on_air = frame().shown(View.PUBLIC, now_ms=AT_MS + after_ms)["on_air"]
    assert (on_air and on_air["title"]) == title


def test_the_public_payload_has_nothing_of_the_staff_s():
    assert set(frame().public) == {"v", "station", "at", "listeners", "includes_totals", "on_air"}


def test_figures_are_equal_when_only_time_has_passed():
    later = frames.from_message({**STATION.message(42, at_ms=AT_MS), "at_ms": AT_MS + 1000})
    moved = {**later.staff, "at": "2026-11-22T10:00:01.000Z"}
    moved["streams"] = [{**stream, "at": moved["at"]} for stream in moved["streams"]]
    assert frames.figures(moved) == frames.figures(frame().staff)


@pytest.mark.parametrize("listeners", [0, 1, None])
def test_nobody_and_unknown_are_told_apart(listeners):
    told = json.loads(frames.encode(frame(listeners).public))["listeners"]
    assert told == listeners
    assert (told is None) == (listeners is None)


def test_a_station_of_which_nothing_was_published_is_unknown():
    nothing = frames.nothing_heard("campus", now_ms=AT_MS)
    assert nothing.shown(View.PUBLIC, now_ms=AT_MS)["listeners"] is None


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {**STATION.message(1), "public": "{"},
        {**STATION.message(1), "public": "[]"},
        {**STATION.message(1), "staff": '{"streams": 3}'},
        {**STATION.message(1), "at_ms": "soon"},
        {**STATION.message(1), "stale_after_ms": None},
    ],
    ids=["empty", "no JSON", "a list", "streams of no kind", "no instant", "no limit"],
)
def test_a_message_of_another_shape_is_refused(broken):
    with pytest.raises(MalformedRecord, match="live frame"):
        frames.from_message(broken)


@pytest.mark.parametrize("text", ["", None, "soon", "2026-11-22T10:00:00"])
def test_an_instant_without_a_zone_is_no_instant(text):
    assert frames.from_text(text) is None


@pytest.mark.parametrize("ms", [0, 999, AT_MS, AT_MS + 1])
def test_an_instant_survives_being_written(ms):
    assert frames.from_text(frames.to_text(ms)) == ms
