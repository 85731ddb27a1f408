"""The admin poll: what it refuses, and who stays on which stream."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.errors import ConfigurationError, MalformedRecord, SourceUnavailable
from aircox_listen_stats.sources import urlauth
from aircox_listen_stats.sources.icecast import IcecastSource, parse_listclients, parse_stats
from tests.sources.recording import FOLDER, MOUNTS, MS, at, rows

NOW_MS = 1_795_312_400_250
OPTIONS = {"url": "http://127.0.0.1:8000", "password": "tr0ub4dor"}


class PretendIcecast(httpx.BaseTransport):
    """Mounts with (client, seconds connected, address); None is a mount without a source."""

    def __init__(self, mounts: dict[str, list[tuple[int, int, str]] | None], server: str = "run 1") -> None:
        self.mounts = mounts
        self.server = server
        self.asked: list[str] = []
        self.before: Callable[[str], Any] = lambda target: None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode()
        self.asked.append(target)
        given = self.before(target)
        if given is not None:
            return given
        if target == "/admin/stats":
            return httpx.Response(200, text=self.stats())
        clients = self.mounts.get(target.partition("=")[2])
        if clients is None:
            return httpx.Response(400, text="<html><b>400 - Source does not exist</b></html>")
        return httpx.Response(200, text=page(target.partition("=")[2], clients))

    def stats(self) -> str:
        sources = "".join(
            f'<source mount="{mount}"><listeners>{len(clients)}</listeners></source>'
            for mount, clients in self.mounts.items()
            if clients is not None
        )
        return f"<icestats><server_start_iso8601>{self.server}</server_start_iso8601>{sources}</icestats>"


def page(mount: str, clients: list[tuple[int, int, str]], counted: int | None = None) -> str:
    listed = "".join(
        f"<listener><IP>{ip}</IP><UserAgent>VLC</UserAgent><Connected>{seconds}</Connected><ID>{number}</ID></listener>"
        for number, seconds, ip in clients
    )
    counted = len(clients) if counted is None else counted
    body = f'<source mount="{mount}"><Listeners>{counted}</Listeners>{listed}</source>'
    return f'<?xml version="1.0"?><icestats>{body}</icestats>'


def source(
    icecast: PretendIcecast, streams: dict[str, str] | None = None, **fallbacks: tuple[str, ...]
) -> IcecastSource:
    made = IcecastSource("icecast", streams or {"/live.mp3": "live", "/low.mp3": "low"}, OPTIONS, fallbacks=fallbacks)
    made.transport = icecast
    return made


def streams_of(report: Any) -> dict[str, str]:
    return {one.client: one.stream for one in report.observations}


# Pages -------------------------------------------------------------------------------------------------


def test_recorded_pages_list_as_many_listeners_as_they_count() -> None:
    read = 0
    for one in rows("polls.jsonl"):
        if "listclients" in one["path"] and one["status"] == 200:
            parse_listclients(one["body"].encode(), one["path"].partition("=")[2])
            read += 1
    assert read == 115


def test_odd_agents_are_read() -> None:
    """Entities, mangled Latin-1, spaces, and the empty agent of one with a control byte."""
    listed = parse_listclients((FOLDER / "listclients_odd_agents.xml").read_bytes(), "/big.ogg")
    assert [one.address.agent for one in listed][2:7] == ["Unknown", "", '<b>&amp;"x"</b>', "Rädio", "lead trail  "]
    assert "R" not in repr(listed[5].address)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_xml"),
        (b"<html><body>busy</body></html>", "not_icestats"),
        (b"<icestats></icestats>", "no_mount"),
        (b"<icestats><source mount='/other'><Listeners>0</Listeners></source></icestats>", "no_mount"),
        (b"<icestats><source mount='/live.mp3'></source></icestats>", "listeners"),
        (page("/live.mp3", [(1, 5, "192.0.2.1")])[:-20].encode(), "not_xml"),
        (page("/live.mp3", [(1, 5, "192.0.2.1")], counted=2).encode(), "count"),
        (page("/live.mp3", [], counted=7).encode(), "count"),
        (page("/live.mp3", [(1, -5, "192.0.2.1")]).encode(), "connected"),
        (page("/live.mp3", [(1, 5, "")]).encode(), "ip"),
        (page("/live.mp3", [(1, 10**11, "192.0.2.1")]).encode(), "connected"),
        (
            b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + page("/live.mp3", []).encode(),
            "doctype",
        ),
    ],
)
def test_a_page_that_breaks_the_format_is_refused_by_name(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse_listclients(body, "/live.mp3")
    assert caught.value.reason == reason


def test_malformed_files_are_refused() -> None:
    with pytest.raises(MalformedRecord, match="counts 2 listeners and lists 1"):
        parse_listclients((FOLDER / "malformed_listclients.xml").read_bytes(), "/live.mp3")
    with pytest.raises(MalformedRecord):
        parse_stats((FOLDER / "malformed_stats.xml").read_bytes())


RECORDED_PAGE = (FOLDER / "sample_listclients_live.mp3.xml").read_bytes()


@given(st.binary(max_size=200), st.integers(0, len(RECORDED_PAGE)), st.integers(0, 60))
def test_any_damage_to_a_page_is_refused_or_read_and_nothing_else(bytes_: bytes, place: int, cut: int) -> None:
    damaged = RECORDED_PAGE[:place] + bytes_ + RECORDED_PAGE[place + cut :]
    for parse in (lambda body: parse_listclients(body, "/live.mp3"), parse_stats):
        for body in (damaged, bytes_):
            with contextlib.suppress(MalformedRecord):
                parse(body)


# Polls -------------------------------------------------------------------------------------------------


def test_a_start_is_the_second_of_the_poll_less_connected() -> None:
    polled = source(PretendIcecast({"/live.mp3": [(5, 84, "192.0.2.7")], "/low.mp3": None}))
    (one,) = polled.pull({}, now_ms=NOW_MS).observations
    assert one.started_ms == (NOW_MS // MS - 84) * MS
    assert (one.client, one.stream, one.ended) == ("5", "live", False)
    assert one.seen_ms >= NOW_MS


def test_a_mount_without_a_source_is_an_empty_census() -> None:
    report = source(PretendIcecast({"/live.mp3": None, "/low.mp3": None})).pull({}, now_ms=NOW_MS)
    assert report.observations == []
    assert report.census is not None
    assert report.census.streams == {"live", "low"}
    assert report.census.server == "run 1"


FAILURES: dict[str, Callable[[], httpx.Response]] = {
    "blank": lambda: httpx.Response(200, content=b""),
    "html": lambda: httpx.Response(200, text="<html>busy</html>"),
    "cut": lambda: httpx.Response(200, text=page("/live.mp3", [(1, 2, "192.0.2.1")])[:90]),
    "no listeners but counted": lambda: httpx.Response(200, text=page("/live.mp3", [], counted=3)),
    "wrong password": lambda: httpx.Response(401, text="You need to authenticate"),
    "another 400": lambda: httpx.Response(400, text="<html>Mount required</html>"),
    "broken": lambda: httpx.Response(500),
    "moved": lambda: httpx.Response(302, headers={"Location": "/"}),
}


PAGES = ("/admin/listclients?mount=/live.mp3", "/admin/listclients?mount=/low.mp3", "/admin/stats")


@pytest.mark.parametrize(("name", "where"), [(name, where) for name in FAILURES for where in PAGES])
def test_a_failed_page_fails_the_poll_and_tells_no_password(name: str, where: str) -> None:
    """A failed or blank poll ends nobody: it raises."""
    icecast = PretendIcecast({"/live.mp3": [(1, 5, "192.0.2.1")], "/low.mp3": []})
    icecast.before = lambda target: FAILURES[name]() if target == where else None
    with pytest.raises(SourceUnavailable) as caught:
        source(icecast).pull({}, now_ms=NOW_MS)
    assert "'icecast'" in str(caught.value)
    assert "tr0ub4dor" not in str(caught.value)
    assert "192.0.2" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("no"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("odd")]
)
def test_a_server_that_does_not_answer_fails_the_poll(error: httpx.HTTPError) -> None:
    icecast = PretendIcecast({})

    def refuse(target: str) -> None:
        raise error

    icecast.before = refuse
    with pytest.raises(SourceUnavailable, match="does not answer"):
        source(icecast).pull({}, now_ms=NOW_MS)


def test_a_count_caught_between_two_locks_is_asked_for_again() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 5, "192.0.2.1")], "/low.mp3": []})
    odd = [httpx.Response(200, text=page("/live.mp3", [(1, 5, "192.0.2.1")], counted=2))]
    icecast.before = lambda target: odd.pop() if odd and "live" in target else None
    assert len(source(icecast).pull({}, now_ms=NOW_MS).observations) == 1


def test_a_restart_between_two_polls_makes_its_numbers_new_clients() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 500, "192.0.2.1")], "/low.mp3": []})
    polled = source(icecast)
    first = polled.pull({}, now_ms=NOW_MS)
    icecast.server, icecast.mounts["/live.mp3"] = "run 2", []
    icecast.mounts["/low.mp3"] = [(1, 3, "192.0.2.9")]
    second = polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 15_000)
    assert streams_of(second) == {"1": "low"}
    assert second.census is not None
    assert second.census.server == "run 2"
    assert second.observations[0].started_ms == ((NOW_MS + 15_000) // MS - 3) * MS


def test_a_restart_within_a_poll_never_mixes_two_runs() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 500, "192.0.2.1")], "/low.mp3": [(2, 500, "192.0.2.2")]})
    polled = source(icecast)
    cursor = dict(polled.pull({}, now_ms=NOW_MS).cursor or {})

    def restart(target: str) -> None:
        if "low" in target:
            icecast.server, icecast.mounts = "run 2", {"/live.mp3": [], "/low.mp3": []}
        return None

    icecast.before = restart
    report = polled.pull(cursor, now_ms=NOW_MS + 15_000)
    assert report.observations == []
    assert report.census is not None
    assert report.census.server == "run 2"


def test_a_listener_moved_to_a_fallback_stays_on_its_stream() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 50, "192.0.2.1")], "/low.mp3": [], "/fb.mp3": []})
    polled = source(icecast, live=("/fb.mp3",))
    cursor = dict(polled.pull({}, now_ms=NOW_MS).cursor or {})
    icecast.mounts.update({"/live.mp3": None, "/fb.mp3": [(1, 65, "192.0.2.1"), (2, 4, "192.0.2.2")]})
    report = polled.pull(cursor, now_ms=NOW_MS + 15_000)
    assert streams_of(report) == {"1": "live", "2": "live"}
    icecast.mounts.update({"/live.mp3": [(1, 80, "192.0.2.1")], "/fb.mp3": [(2, 19, "192.0.2.2")]})
    assert streams_of(polled.pull(dict(report.cursor or {}), now_ms=NOW_MS + 30_000)) == {"1": "live", "2": "live"}


def test_a_stream_that_is_anothers_fallback_keeps_its_own_and_returns_the_others() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 50, "192.0.2.1")], "/low.mp3": [(2, 9, "192.0.2.2")]})
    polled = source(icecast, live=("/low.mp3",))
    cursor = dict(polled.pull({}, now_ms=NOW_MS).cursor or {})
    icecast.mounts = {"/live.mp3": None, "/low.mp3": [(1, 65, "192.0.2.1"), (2, 24, "192.0.2.2"), (3, 1, "192.0.2.3")]}
    report = polled.pull(cursor, now_ms=NOW_MS + 15_000)
    assert streams_of(report) == {"1": "live", "2": "low", "3": "low"}


def test_a_listener_that_an_admin_moved_anywhere_is_found_and_strangers_are_not_taken() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 50, "192.0.2.1")], "/low.mp3": [], "/else.mp3": [(9, 5, "192.0.2.9")]})
    polled = source(icecast)
    first = polled.pull({}, now_ms=NOW_MS)
    assert streams_of(first) == {"1": "live"}
    assert "/admin/listclients?mount=/else.mp3" not in icecast.asked
    icecast.mounts.update({"/live.mp3": [], "/else.mp3": [(9, 20, "192.0.2.9"), (1, 65, "192.0.2.1")]})
    assert streams_of(polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 15_000)) == {"1": "live"}


def test_a_listener_that_moves_back_during_the_poll_is_not_missed() -> None:
    icecast = PretendIcecast({"/live.mp3": None, "/low.mp3": [], "/fb.mp3": [(1, 65, "192.0.2.1")]})
    polled = source(icecast, live=("/fb.mp3",))
    cursor = dict(polled.pull({}, now_ms=NOW_MS).cursor or {})

    def move_back(target: str) -> None:
        if "fb" in target:
            icecast.mounts.update({"/live.mp3": [(1, 80, "192.0.2.1")], "/fb.mp3": []})
        return None

    icecast.before = move_back
    assert streams_of(polled.pull(cursor, now_ms=NOW_MS + 15_000)) == {"1": "live"}


def test_a_fallback_of_two_streams_belongs_to_the_one_without_a_source() -> None:
    icecast = PretendIcecast({"/live.mp3": [], "/low.mp3": None, "/fb.mp3": [(1, 5, "192.0.2.1")]})
    report = source(icecast, live=("/fb.mp3",), low=("/fb.mp3",)).pull({}, now_ms=NOW_MS)
    assert streams_of(report) == {"1": "low"}
    assert "fallback_of_several_streams" not in report.counts
    icecast.mounts["/low.mp3"] = []
    report = source(icecast, live=("/fb.mp3",), low=("/fb.mp3",)).pull({}, now_ms=NOW_MS)
    assert report.counts["fallback_of_several_streams"] == 1


def test_coverage_is_unbroken_between_polls_and_broken_after_missed_ones() -> None:
    polled = source(PretendIcecast({"/live.mp3": [], "/low.mp3": []}))
    first = polled.pull({}, now_ms=NOW_MS)
    assert {one.started_ms for one in first.heard} == {NOW_MS}
    soon = polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 20_000)
    assert {one.started_ms for one in soon.heard} == {first.heard[0].ended_ms}
    late = polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 60_000)
    assert {one.started_ms for one in late.heard} == {NOW_MS + 60_000}
    back = polled.pull(dict(first.cursor or {}), now_ms=NOW_MS - 60_000)
    assert {one.started_ms for one in back.heard} == {NOW_MS - 60_000}


def test_the_cursor_is_json_and_survives_a_restart_of_the_collector() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 50, "192.0.2.1")], "/low.mp3": []})
    cursor = json.loads(json.dumps(source(icecast).pull({}, now_ms=NOW_MS).cursor))
    assert "192.0.2" not in json.dumps(cursor)
    icecast.mounts = {"/live.mp3": [], "/low.mp3": [(1, 65, "192.0.2.1")]}
    assert streams_of(source(icecast).pull(cursor, now_ms=NOW_MS + 15_000)) == {"1": "live"}


def test_behind_the_stations_own_proxy_the_identity_is_not_known() -> None:
    icecast = PretendIcecast({"/live.mp3": [(1, 5, "127.0.0.1"), (2, 5, "192.0.2.1")]})
    polled = IcecastSource("icecast", {"/live.mp3": "live"}, OPTIONS, trusted_proxies=("127.0.0.0/8",))
    polled.transport = icecast
    assert [one.identity_known for one in polled.pull({}, now_ms=NOW_MS).observations] == [False, True]


def test_poll_and_callback_of_one_server_agree_on_number_and_start() -> None:
    """In the recording: each client that a poll listed and that was removed, to the second."""
    removed = {}
    for row in rows("url_auth.jsonl"):
        event = urlauth.parse_body(row["raw_body"].encode())
        if event.action == "listener_remove" and row["path"].startswith("/ok/"):
            removed[event.client, event.mount] = at(row["t_recv"]) // MS - (event.duration_s or 0)
    checked = 0
    for one in rows("polls.jsonl"):
        if "listclients" not in one["path"] or one["status"] != 200:
            continue
        mount = one["path"].partition("=")[2]
        for listed in parse_listclients(one["body"].encode(), mount):
            start_s = removed.get((listed.client, mount))
            if start_s is not None and abs(start_s - (int(one["t"]) - listed.connected_s)) < 60:
                checked += 1
                assert abs(start_s - (int(one["t"]) - listed.connected_s)) <= 1
    assert checked > 100


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "127.0.0.1:8000", "password": "x"},
        {"url": "ftp://127.0.0.1/", "password": "x"},
        {"url": "http://admin:tr0ub4dor@127.0.0.1:8000", "password": "x"},
        {"url": "http://127.0.0.1:8000"},
        {**OPTIONS, "poll_seconds": 0},
        {**OPTIONS, "timeout_seconds": -1},
        {**OPTIONS, "poll_secnds": 5},
        {**OPTIONS, "poll_seconds": "15"},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        IcecastSource("icecast", MOUNTS, options)
    assert "tr0ub4dor" not in str(caught.value)


def test_a_page_that_never_ends_is_given_up_at_the_time_limit(tmp_path: Path) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    stop = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not stop.wait(0.05):
                self.wfile.write(b" ")

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        polled = IcecastSource(
            "icecast",
            {"/live.mp3": "live"},
            {"url": f"http://127.0.0.1:{server.server_port}", "password": "x", "timeout_seconds": 0.3},
        )
        with pytest.raises(SourceUnavailable, match="does not answer"):
            polled.pull({}, now_ms=NOW_MS)
        polled.close()
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def test_a_list_that_comes_over_the_end_of_a_second_is_asked_for_again() -> None:
    """Nobody knows up to which of the two seconds Icecast counted: the start would be a second early."""
    source = IcecastSource("ice", {"/live.mp3": "live"}, {"url": "http://127.0.0.1:8000", "password": "x"})
    passed_ms, asked = [0], []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/admin/stats":
            page = "<icestats><server_start_iso8601>x</server_start_iso8601></icestats>"
            return httpx.Response(200, text=page)
        asked.append(request.url.path)
        if len(asked) == 1:
            passed_ms[0] += 20
        listener = "<listener><IP>192.0.2.1</IP><UserAgent>x</UserAgent><Connected>11</Connected><ID>1</ID></listener>"
        source_ = f'<source mount="/live.mp3"><Listeners>1</Listeners>{listener}</source>'
        return httpx.Response(200, text=f"<icestats>{source_}</icestats>")

    source.transport = httpx.MockTransport(answer)
    source._elapsed_ms = lambda: passed_ms[0]
    report = source.pull({}, now_ms=1_795_000_000_990)
    assert [one.started_ms for one in report.observations] == [1_795_000_001_000 - 11_000]
    assert len(asked) == 2
    source.close()
