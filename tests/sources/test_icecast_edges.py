"""Several edges of one stream add up, and icecast-kh's spelling of the same pages is read."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from aircox_listen_stats.errors import ConfigurationError, MalformedRecord, SourceUnavailable
from aircox_listen_stats.sources.icecast import IcecastSource, parse_listclients, parse_stats
from tests.sources.recording import FOLDER, MS
from tests.sources.test_icecast import PretendIcecast

NOW_MS = 1_795_312_400_250
EDGES = ["http://one.localhost:8000", "http://two.localhost:8000"]
STREAMS = {"/live.mp3": "live", "/low.mp3": "low"}


class PretendEdges(httpx.BaseTransport):
    """One pretended Icecast for each host."""

    def __init__(self, **edges: PretendIcecast) -> None:
        self.edges = edges

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.edges[request.url.host.partition(".")[0]].handle_request(request)


def edges(urls: list[str] | None = None, **pretended: PretendIcecast) -> IcecastSource:
    made = IcecastSource("icecast", STREAMS, {"urls": urls or EDGES, "password": "tr0ub4dor"})
    made.transport = PretendEdges(**pretended)
    return made


def two() -> tuple[PretendIcecast, PretendIcecast]:
    """Two edges whose client numbers are the same."""
    return (
        PretendIcecast({"/live.mp3": [(1, 50, "192.0.2.1"), (2, 9, "192.0.2.2")], "/low.mp3": []}),
        PretendIcecast({"/live.mp3": [(1, 70, "192.0.2.3")], "/low.mp3": [(2, 5, "192.0.2.4")]}, server="run 9"),
    )


def told(report: Any) -> set[tuple[str, int, str]]:
    return {(one.stream, NOW_MS // MS - one.started_ms // MS, one.address.ip) for one in report.observations}


def test_edges_add_up_and_equal_numbers_are_different_clients() -> None:
    one, other = two()
    report = edges(one=one, two=other).pull({}, now_ms=NOW_MS)
    assert told(report) == {
        ("live", 50, "192.0.2.1"),
        ("live", 9, "192.0.2.2"),
        ("live", 70, "192.0.2.3"),
        ("low", 5, "192.0.2.4"),
    }
    assert len({one.client for one in report.observations}) == 4
    assert report.counts == {"read": 4, "kept": 4}


def test_the_order_of_the_list_changes_no_number() -> None:
    one, other = two()
    first = edges(one=one, two=other).pull({}, now_ms=NOW_MS)
    again = edges(EDGES[::-1], one=one, two=other).pull(json.loads(json.dumps(first.cursor)), now_ms=NOW_MS + 15_000)
    assert {one.client for one in again.observations} == {one.client for one in first.observations}


def test_numbers_tell_no_address_of_an_edge() -> None:
    one, other = two()
    report = edges(one=one, two=other).pull({}, now_ms=NOW_MS)
    assert "localhost" not in json.dumps(report.cursor) + str(report.census)


def test_one_edge_that_fails_fails_the_poll_and_nobody_leaves() -> None:
    one, other = two()
    other.before = lambda target: httpx.Response(500)
    with pytest.raises(SourceUnavailable):
        edges(one=one, two=other).pull({}, now_ms=NOW_MS)


def test_the_restart_of_one_edge_gives_it_new_numbers_and_keeps_the_other_edges_clients() -> None:
    one, other = two()
    polled = edges(one=one, two=other)
    first = polled.pull({}, now_ms=NOW_MS)
    other.server, other.mounts = "run 10", {"/live.mp3": [(1, 3, "192.0.2.3")], "/low.mp3": []}
    one.mounts = {"/live.mp3": [], "/low.mp3": [(1, 66, "192.0.2.1")]}  # an admin moved it
    second = polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 15_000)
    assert first.census is not None
    assert second.census is not None
    assert first.census.server == second.census.server == ""
    numbers = [{one.address.ip: one.client for one in report.observations} for report in (first, second)]
    assert numbers[0]["192.0.2.1"] == numbers[1]["192.0.2.1"]
    assert numbers[0]["192.0.2.3"] != numbers[1]["192.0.2.3"]
    # The moved one stays on its stream and keeps its start; the other edge's number 1 is another client.
    assert told(second) == {("live", 50, "192.0.2.1"), ("live", -12, "192.0.2.3")}


def test_a_callback_of_several_edges_is_refused_by_name() -> None:
    with pytest.raises(MalformedRecord) as caught:
        edges().receive({"action": "listener_remove"}, received_ms=NOW_MS)
    assert caught.value.reason == "edge"


@pytest.mark.parametrize(
    "options",
    [
        {"urls": EDGES, "url": EDGES[0]},
        {"urls": [EDGES[0], EDGES[0] + "/"]},
        {"urls": ["one.localhost"]},
        {"urls": [8000]},
        {"urls": []},
    ],
)
def test_lists_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        IcecastSource("icecast", STREAMS, {**options, "password": "x"})


# icecast-kh ----------------------------------------------------------------------------------------------


def test_icecast_kh_spells_the_list_otherwise() -> None:
    """``listeners`` for ``Listeners``, the number as attribute too, ``lag``; no agent and no time where it has none."""
    listed = parse_listclients((FOLDER / "kh_listclients.xml").read_bytes(), "/live.mp3")
    assert [(one.client, one.connected_s, one.address.agent) for one in listed] == [
        ("21", 84, "VLC/3.0.20 <Rädio>"),
        ("22", 7, ""),
        ("23", None, "Sonos/80.1"),
        ("24", 12, "mpv 0.35"),
    ]


def test_icecast_kh_tells_its_start_without_iso_8601() -> None:
    stats = parse_stats((FOLDER / "kh_stats.xml").read_bytes())
    assert (stats.server, stats.listeners) == ("22/Nov/2026:01:48:38 +0000", {"/live.mp3": 4})


def kh(answer: httpx.Response) -> IcecastSource:
    made = IcecastSource("icecast", {"/live.mp3": "live"}, {"url": "http://127.0.0.1:9", "password": "x"})

    def handle(request: httpx.Request) -> httpx.Response:
        stats = request.url.path == "/admin/stats"
        return httpx.Response(200, content=(FOLDER / "kh_stats.xml").read_bytes()) if stats else answer

    made.transport = httpx.MockTransport(handle)
    return made


def test_a_listener_whose_time_is_not_told_began_when_it_was_first_seen() -> None:
    report = kh(httpx.Response(200, content=(FOLDER / "kh_listclients.xml").read_bytes())).pull({}, now_ms=NOW_MS)
    assert {one.client: one.start_known for one in report.observations} == {
        "21": True,
        "22": True,
        "23": False,
        "24": True,
    }
    assert all(one.started_ms <= one.seen_ms for one in report.observations)


def test_icecast_khs_words_for_a_mount_without_a_source() -> None:
    """“mount does not exist” is nobody; “Source is not available” is a moment in which nobody knows."""
    assert kh(httpx.Response(400, text="<b>mount does not exist</b>")).pull({}, now_ms=NOW_MS).observations == []
    with pytest.raises(SourceUnavailable):
        kh(httpx.Response(400, text="<b>Source is not available</b>")).pull({}, now_ms=NOW_MS)
