"""Icecast's public status page: how many, never who; its template's faults do not hide the count."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.errors import ConfigurationError, MalformedRecord, SourceUnavailable
from aircox_listen_stats.sources.icecast_totals import IcecastTotalsSource, parse_status

FOLDER = Path(__file__).resolve().parent.parent / "data" / "icecast"
NOW_MS = 1_795_312_400_250


def mount(name: str, listeners: Any = 2, **more: Any) -> dict[str, Any]:
    return {"listeners": listeners, "listenurl": f"http://localhost:8000{name}", **more, "dummy": None}


def status(**more: Any) -> bytes:
    return json.dumps({"icestats": {"server_start": "now", **more, "dummy": None}}).encode()


def source(body: bytes, streams: dict[str, str] | None = None) -> IcecastTotalsSource:
    made = IcecastTotalsSource("totals", streams or {"/live.mp3": "live"}, {"url": "http://127.0.0.1:9"})
    made.transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    return made


def test_the_recorded_page_of_many_mounts() -> None:
    told = parse_status((FOLDER / "status-json.json").read_bytes())
    assert {name: told[name] for name in ("/live.mp3", "/live.ogg", "/low.mp3")} == {
        "/live.mp3": 10,
        "/live.ogg": 2,
        "/low.mp3": 5,
    }
    assert len(told) == 12


def test_one_mount_is_a_dict_several_are_a_list_none_is_absent() -> None:
    assert parse_status(status(source=mount("/live.mp3"))) == {"/live.mp3": 2}
    assert parse_status(status(source=[mount("/live.mp3"), mount("/low.mp3", 0)])) == {"/live.mp3": 2, "/low.mp3": 0}
    assert parse_status(status()) == {}


def test_a_title_of_a_lone_dash_makes_no_json_and_hides_no_listener() -> None:
    page = (FOLDER / "status-json_dash_title.json").read_bytes()
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(page)
    assert parse_status(page) == {"/live.mp3": 2}


def test_a_server_without_any_source_writes_no_json_and_lists_nothing() -> None:
    page = (FOLDER / "status-json_no_source.json").read_bytes()
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(page)
    assert parse_status(page) == {}


def test_a_title_cannot_pretend_to_be_a_mount() -> None:
    title = json.dumps('"listeners":99,"listenurl":"http://localhost/live.mp3"')
    page = status(source=[mount("/live.mp3", 3)]).replace(b"null", f"{title}".encode())
    broken = page.replace(b'"now"', b" - ")
    assert parse_status(page) == {"/live.mp3": 3}
    with contextlib.suppress(MalformedRecord):
        assert parse_status(broken) == {"/live.mp3": 3}


def test_a_mount_that_is_not_listed_is_unknown_and_not_zero() -> None:
    report = source(status(source=mount("/live.mp3", 7)), {"/live.mp3": "live", "/hidden.mp3": "hidden"}).pull(
        {}, now_ms=NOW_MS
    )
    assert report.totals == {"live": 7}
    assert [one.stream for one in report.heard] == ["live"]
    assert report.observations == ()
    assert report.census is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"<html>", "not_json"),
        (b"[]", "not_icestats"),
        (b"{}", "not_icestats"),
        (b'{"icestats": {}}', "not_icestats"),
        (status(source=3), "source"),
        (status(source=[1]), "source"),
        (status(source={"listeners": 1}), "listenurl"),
        (status(source=mount("/live.mp3", "2")), "listeners"),
        (status(source=mount("/live.mp3", -1)), "listeners"),
        (status(source=mount("/live.mp3", True)), "listeners"),
        (status(source={"listeners": 1, "listenurl": "http://[::1/live.mp3"}), "listenurl"),
        (status(source=[mount("/live.mp3"), mount("/live.mp3")]), "mount_twice"),
        ((FOLDER / "status-json.json").read_bytes()[:2000], "not_json"),
        ((FOLDER / "status-json_dash_title.json").read_bytes()[:-1], "not_json"),
    ],
)
def test_a_page_that_breaks_the_format_is_refused_by_name(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse_status(body)
    assert caught.value.reason == reason


def test_a_server_without_the_template_is_told_so() -> None:
    made = source(b"")
    made.transport = httpx.MockTransport(lambda request: httpx.Response(404, text="Could not parse XSLT file"))
    with pytest.raises(SourceUnavailable, match="webroot"):
        made.pull({}, now_ms=NOW_MS)


def test_an_account_is_not_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="password"):
        IcecastTotalsSource("totals", {}, {"url": "http://127.0.0.1:9", "password": "x"})


PAGES = [path.read_bytes() for path in sorted(FOLDER.glob("status-json*.json"))]


@given(st.binary(max_size=100), st.sampled_from(PAGES), st.floats(0, 1), st.integers(0, 60))
def test_any_damage_is_refused_or_read_and_nothing_else(bytes_: bytes, page: bytes, place: float, cut: int) -> None:
    at = round(place * len(page))
    for body in (page[:at] + bytes_ + page[at + cut :], bytes_):
        with contextlib.suppress(MalformedRecord):
            parse_status(body)
