"""Shoutcast 2's administration: both formats, the spellings of its versions, and empty answers."""

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
from aircox_listen_stats.sources.shoutcast import ShoutcastSource, parse_count, parse_listeners

FOLDER = Path(__file__).resolve().parent.parent / "data" / "shoutcast"
MS = 1000
NOW_S = 1_795_312_400
NOW_MS = NOW_S * MS + 250
OPTIONS = {"url": "http://127.0.0.1:9", "password": "tr0ub4dor"}
LISTS = ("listeners_2.6.json", "listeners_numbers.json", "listeners_2.6.xml", "listeners_2.0.xml")


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def listener(uid: Any = "1", connected: Any = "100", ip: str = "192.0.2.7", **more: Any) -> dict[str, Any]:
    return {"hostname": ip, "useragent": "VLC", "connecttime": connected, "uid": uid, **more}


class PretendShoutcast:
    """Lists by sid; ``counted`` overrules what the summary counts."""

    def __init__(self, **lists: list[dict[str, Any]]) -> None:
        self.lists = {name.removeprefix("sid"): listed for name, listed in lists.items()}
        self.counted: int | None = None
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.raw_path.decode())
        assert request.headers["Authorization"].startswith("Basic ")
        listed = self.lists[request.url.params["sid"]]
        if request.url.params["page"] == "3":
            return httpx.Response(200, json=listed)
        count = len(listed) if self.counted is None else self.counted
        return httpx.Response(200, json={"currentlisteners": count, "streamstatus": 1})


def source(shoutcast: Any, streams: dict[str, str] | None = None, **more: Any) -> ShoutcastSource:
    made = ShoutcastSource("shout", streams or {"1": "live"}, OPTIONS, **more)
    made.transport = httpx.MockTransport(shoutcast)
    return made


def starts(report: Any) -> dict[str, int]:
    return {one.client: one.started_ms // MS - NOW_S for one in report.observations}


@pytest.mark.parametrize("name", LISTS)
def test_every_version_and_format_tells_the_same_listeners(name: str) -> None:
    listed = parse_listeners(read(name))
    assert [(one.uid, one.connected_s) for one in listed] == [("1", 1337), ("2", 5), ("17", 86400)]
    assert [one.address.agent for one in listed] == ["WinampMPEG/5.66", "", 'Mozilla/5.0 Rädio <1> & "2"']
    assert listed[2].forwarded == ("" if name == "listeners_2.0.xml" else "203.0.113.77, 198.51.100.4")


@pytest.mark.parametrize(
    ("name", "count"),
    [("summary_2.6.json", 3), ("summary_2.6.xml", 3), ("summary_nobody.json", 0), ("summary_nobody.xml", 0)],
)
def test_the_summary_counts(name: str, count: int) -> None:
    assert parse_count(read(name)) == count


def test_an_empty_list_is_read_in_both_formats() -> None:
    assert parse_listeners(b"[]") == ()
    assert parse_listeners(read("listeners_nobody.xml")) == ()


def test_connecttime_is_in_seconds_before_the_poll() -> None:
    report = source(PretendShoutcast(sid1=[listener(connected="84")])).pull({}, now_ms=NOW_MS)
    assert starts(report) == {"1.1": -84}


def test_a_new_session_begins_when_connecttime_goes_down() -> None:
    """The number may be used again once its listener has gone."""
    shoutcast = PretendShoutcast(sid1=[listener("7", "100"), listener("8", "50")])
    polled = source(shoutcast)
    first = polled.pull({}, now_ms=NOW_MS)
    shoutcast.lists["1"] = [listener("7", "5"), listener("8", "66")]  # 8: a second late, which is rounding
    assert starts(polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 15_000)) == {"1.7": 10, "1.8": -50}


def test_streams_of_one_server_keep_their_numbers_apart() -> None:
    shoutcast = PretendShoutcast(sid1=[listener("1")], sid2=[listener("1", ip="192.0.2.8")])
    report = source(shoutcast, {"1": "live", "/stream/2/": "low"}).pull({}, now_ms=NOW_MS)
    assert sorted((one.stream, one.client) for one in report.observations) == [("live", "1.1"), ("low", "2.1")]


def test_an_empty_list_beside_a_count_is_an_error_and_nobody_leaves() -> None:
    shoutcast = PretendShoutcast(sid1=[])
    shoutcast.counted = 4
    with pytest.raises(SourceUnavailable, match="lists nobody on sid 1"):
        source(shoutcast).pull({}, now_ms=NOW_MS)
    assert sum("page=3" in one for one in shoutcast.asked) == 3


def test_an_empty_list_beside_a_count_of_nobody_is_an_empty_stream() -> None:
    report = source(PretendShoutcast(sid1=[])).pull({}, now_ms=NOW_MS)
    assert report.observations == []
    assert report.census is not None


def test_an_address_that_was_passed_on_is_believed_from_a_trusted_proxy_alone() -> None:
    """From right to left, up to the first that is no proxy of ours; whatever the listener wrote before it."""
    forwarded = "203.0.113.1, 203.0.113.77, 198.51.100.4"
    shoutcast = PretendShoutcast(
        sid1=[
            listener("1", ip="127.0.0.1", xff=forwarded),
            listener("2", ip="192.0.2.9", xff="203.0.113.5"),
            listener("3", ip="127.0.0.1", xff=""),
        ]
    )
    polled = source(shoutcast, trusted_proxies=("127.0.0.0/8", "198.51.100.0/24"))
    found = {one.client: (one.address, one.identity_known) for one in polled.pull({}, now_ms=NOW_MS).observations}
    told = {client: (address.ip, known) for client, (address, known) in found.items() if address}
    assert told == {"1.1": ("203.0.113.77", True), "1.2": ("192.0.2.9", True), "1.3": ("127.0.0.1", False)}


def test_a_host_that_is_told_by_its_name_is_a_listener_too() -> None:
    report = source(PretendShoutcast(sid1=[listener(ip="host.example.net")])).pull({}, now_ms=NOW_MS)
    assert len(report.observations) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"<html><body>Log in</body></html>", "not_shoutcast"),
        (b"<SHOUTCASTSERVER><LISTENERS>", "not_xml"),
        (b"<SHOUTCASTSERVER></SHOUTCASTSERVER>", "not_a_list"),
        (b"<SHOUTCASTSERVER><LISTENERS><SONG/></LISTENERS></SHOUTCASTSERVER>", "listener"),
        (b'<!DOCTYPE x [<!ENTITY a "ha">]><SHOUTCASTSERVER/>', "doctype"),
        (b'{"error": "no"}', "not_a_list"),
        (b"[1]", "listener"),
        (json.dumps([listener(uid=None)]).encode(), "uid"),
        (json.dumps([listener(uid="ICE CAST")]).encode(), "uid"),
        (json.dumps([listener("1"), listener("1")]).encode(), "uid_twice"),
        (json.dumps([listener(connected="")]).encode(), "connecttime"),
        (json.dumps([listener(connected="-5")]).encode(), "connecttime"),
        (json.dumps([listener(connected=4.5)]).encode(), "connecttime"),
        (json.dumps([listener(connected="99999999999")]).encode(), "connecttime"),
        (json.dumps([listener(ip="")]).encode(), "hostname"),
    ],
)
def test_a_list_that_breaks_the_format_is_refused_by_name(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse_listeners(body)
    assert caught.value.reason == reason


def test_malformed_files_are_refused() -> None:
    with pytest.raises(MalformedRecord, match="uid"):
        parse_listeners(read("malformed_uid.json"))
    with pytest.raises(MalformedRecord):
        parse_listeners(read("malformed_listeners.xml"))


@pytest.mark.parametrize(
    ("streams", "more"),
    [
        ({"/live.mp3": "live"}, {}),
        ({"1": "live", "/stream/1": "low"}, {}),
        ({"1": "live"}, {"format": "html"}),
        ({"1": "live"}, {"password": ""}),
        ({"1": "live"}, {"url": "127.0.0.1:8000"}),
    ],
)
def test_settings_that_cannot_work_are_refused(streams: dict[str, str], more: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ShoutcastSource("shout", streams, {**OPTIONS, **more})
    assert "tr0ub4dor" not in str(caught.value)


@given(st.binary(max_size=100), st.sampled_from(LISTS), st.floats(0, 1), st.integers(0, 60))
def test_any_damage_is_refused_or_read_and_nothing_else(bytes_: bytes, name: str, place: float, cut: int) -> None:
    recorded = read(name)
    at = round(place * len(recorded))
    for body in (recorded[:at] + bytes_ + recorded[at + cut :], bytes_):
        for parse in (parse_listeners, parse_count):
            with contextlib.suppress(MalformedRecord):
                parse(body)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(["hostname", "useragent", "connecttime", "uid", "xff", "UID"]), VALUES), VALUES)
def test_any_listener_is_refused_or_read_and_nothing_else(entry: dict[str, Any], count: Any) -> None:
    with contextlib.suppress(MalformedRecord):
        parse_listeners(json.dumps([listener("1", "5"), entry]).encode())
    with contextlib.suppress(MalformedRecord):
        parse_count(json.dumps({"currentlisteners": count}).encode())
