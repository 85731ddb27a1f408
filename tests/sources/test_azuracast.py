"""AzuraCast's listeners API: what its figures mean, and when an empty list is believed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.errors import ConfigurationError, MalformedRecord, SourceUnavailable
from aircox_listen_stats.sources.azuracast import AzuraCastSource, parse_listeners, parse_now_playing

FOLDER = Path(__file__).resolve().parent.parent / "data" / "azuracast"
MS = 1000
NOW_S = 1_795_312_400
NOW_MS = NOW_S * MS + 250
OPTIONS = {"url": "http://127.0.0.1:9", "station": "radio_example", "api_key": "tr0ub4dor"}
STREAMS = {"/radio.mp3": "live", "/low.mp3": "low", "/HLS: aac_hifi": "hls"}


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def entry(
    ip: Any = "192.0.2.7", on_s: int = NOW_S - 100, until_s: int = NOW_S, mount: str = "/radio.mp3", **more: Any
) -> dict[str, Any]:
    return {
        "ip": ip,
        "user_agent": "VLC/3.0.20",
        "hash": hashlib.md5(str(ip).encode()).hexdigest(),
        "mount_is_local": True,
        "mount_name": mount,
        "connected_on": on_s,
        "connected_until": until_s,
        "connected_time": until_s - on_s,
        **more,
    }


class PretendAzuraCast:
    """A list, and what /api/nowplaying says beside it."""

    def __init__(self, listed: Any, now_playing: Any = None) -> None:
        self.listed = listed
        self.now_playing = now_playing or read("nowplaying_nobody.json")
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.raw_path.decode())
        return httpx.Response(200, json=self.now_playing if "nowplaying" in request.url.path else self.listed)


def source(answer: Callable[[httpx.Request], httpx.Response], **more: Any) -> AzuraCastSource:
    made = AzuraCastSource("azura", STREAMS, OPTIONS, **more)
    made.transport = httpx.MockTransport(answer)
    return made


def starts(report: Any) -> list[int]:
    return sorted(one.started_ms // MS - NOW_S for one in report.observations)


def test_the_documented_list_is_read_with_its_mounts() -> None:
    azura = PretendAzuraCast(read("listeners.json"))
    report = source(azura).pull({}, now_ms=NOW_MS)
    assert sorted((one.stream, one.started_ms // MS - NOW_S) for one in report.observations) == [
        ("hls", -600),
        ("live", -7200),
        ("live", -3725),
        ("live", -42),
        ("low", -15),
    ]
    assert report.counts == {"read": 6, "kept": 5, "other_mounts": 1}
    assert azura.asked == ["/api/station/radio_example/listeners"]
    assert report.census is not None
    assert report.census.streams == {"live", "low", "hls"}


def test_connected_time_is_in_seconds_and_leaves_gaps_out_where_rows_were_joined() -> None:
    """The joined entry of the recording: there for 7200 s, connected for 6100 s of them."""
    joined = parse_listeners((FOLDER / "listeners.json").read_bytes())[2]
    assert joined.connected_s == 7200


def test_a_session_of_a_server_whose_clock_is_wrong_begins_on_ours() -> None:
    fast = [entry(on_s=NOW_S + 3600 - 100, until_s=NOW_S + 3600)]
    assert starts(source(PretendAzuraCast(fast)).pull({}, now_ms=NOW_MS)) == [-100]


def test_a_new_session_begins_when_connected_time_goes_down() -> None:
    """Gone and back between two polls: the start is after the poll that still listed the old one."""
    azura = PretendAzuraCast([entry(on_s=NOW_S - 100)])
    polled = source(azura)
    first = polled.pull({}, now_ms=NOW_MS)
    azura.listed = [entry(on_s=NOW_S + 10, until_s=NOW_S + 30)]
    second = polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 30_000)
    assert starts(second) == [10]
    azura.listed = [entry(on_s=NOW_S + 10, until_s=NOW_S + 60)]
    assert starts(polled.pull(dict(second.cursor or {}), now_ms=NOW_MS + 60_000)) == [10]


def test_a_later_row_of_somebody_who_was_there_is_no_new_session() -> None:
    """AzuraCast joins rows: where its first is closed, the start jumps, to before the last poll."""
    azura = PretendAzuraCast([entry(on_s=NOW_S - 100)])
    polled = source(azura)
    first = polled.pull({}, now_ms=NOW_MS)
    azura.listed = [entry(on_s=NOW_S - 40, until_s=NOW_S + 30)]
    second = polled.pull(dict(first.cursor or {}), now_ms=NOW_MS + 30_000)
    assert starts(second) == [-100]
    assert [one.client for one in second.observations] == [one.client for one in first.observations]


def test_entries_of_one_address_agent_and_mount_are_one_socket() -> None:
    """Where rows are told apart all the same, AzuraCast's surplus rows are not counted."""
    azura = PretendAzuraCast([entry(on_s=NOW_S - 30), entry(on_s=NOW_S - 90), entry(on_s=NOW_S - 60)])
    report = source(azura).pull({}, now_ms=NOW_MS)
    assert starts(report) == [-90]
    assert report.counts["read"] == 3


def test_several_mounts_of_one_listener_are_several_sockets() -> None:
    azura = PretendAzuraCast([entry(), entry(mount="/low.mp3"), entry(mount="/else.mp3")])
    report = source(azura).pull({}, now_ms=NOW_MS)
    assert sorted(one.stream for one in report.observations) == ["live", "low"]
    assert len({one.client for one in report.observations}) == 2


def test_the_name_of_a_socket_hides_the_address_and_changes_with_the_key_and_the_day() -> None:
    """AzuraCast's own hash is MD5 of the address: whoever tries all addresses has it back."""

    def name(key: str = "tr0ub4dor", on_s: int = NOW_S - 100) -> str:
        made = AzuraCastSource("azura", STREAMS, {**OPTIONS, "api_key": key})
        made.transport = httpx.MockTransport(PretendAzuraCast([entry(on_s=on_s)]))
        (one,) = made.pull({}, now_ms=NOW_MS).observations
        return one.client or ""

    assert name() == name()
    assert name() != name(key="another")
    assert name() != name(on_s=NOW_S - 100 - 86_400)
    assert name() not in hashlib.md5(b"192.0.2.7VLC/3.0.20/radio.mp3").hexdigest()


@pytest.mark.parametrize(
    ("beside", "told"), [("nowplaying_three.json", "counts 3 listeners"), ("nowplaying_offline.json", "offline")]
)
def test_an_empty_list_is_no_empty_stream_unless_the_station_says_so(beside: str, told: str) -> None:
    with pytest.raises(SourceUnavailable, match=told):
        source(PretendAzuraCast([], read(beside))).pull({}, now_ms=NOW_MS)


def test_an_empty_list_of_a_station_that_is_online_and_counts_nobody_is_believed() -> None:
    azura = PretendAzuraCast([])
    report = source(azura).pull({}, now_ms=NOW_MS)
    assert report.observations == []
    assert report.census is not None
    assert azura.asked[-1] == "/api/nowplaying/radio_example"


def test_either_count_of_now_playing_is_believed_and_the_larger_one() -> None:
    assert parse_now_playing(b'{"listeners": {"current": 2}, "is_online": true}') == (True, 2)
    assert parse_now_playing(b'{"listeners": {"total": 5, "current": 2, "unique": 1}}') == (True, 5)


def test_an_error_of_azuracast_is_refused() -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse_listeners((FOLDER / "malformed_error.json").read_bytes())
    assert caught.value.reason == "not_a_list"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"ip": ""}, "ip"),
        ({"ip": None}, "ip"),
        ({"user_agent": 7}, "entry"),
        ({"mount_name": []}, "entry"),
        ({"connected_on": "2026-11-22T01:53:20+00:00"}, "connected_on"),
        ({"connected_on": 0}, "connected_on"),
        ({"connected_on": True}, "connected_on"),
        ({"connected_on": NOW_S * MS}, "connected_on"),
        ({"connected_until": NOW_S - 101}, "connected_until"),
        ({"connected_until": 0, "connected_time": -5}, "connected_until"),
        ({"connected_until": NOW_S + 10**10}, "connected_until"),
    ],
)
def test_an_entry_that_breaks_the_format_refuses_the_list_by_name(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse_listeners(json.dumps([entry(), entry(**more)]).encode())
    assert caught.value.reason == reason


def test_the_malformed_recording_is_refused() -> None:
    with pytest.raises(MalformedRecord, match="no epoch second"):
        parse_listeners((FOLDER / "malformed_listeners.json").read_bytes())


def test_an_entry_without_an_end_has_its_connected_time() -> None:
    (one,) = parse_listeners(json.dumps([entry(connected_until=None, connected_time=75)]).encode())
    assert one.connected_s == 75


def test_behind_the_stations_own_proxy_the_identity_is_not_known() -> None:
    polled = source(PretendAzuraCast([entry("127.0.0.1"), entry()]), trusted_proxies=("127.0.0.0/8",))
    assert sorted(one.identity_known for one in polled.pull({}, now_ms=NOW_MS).observations) == [False, True]


@pytest.mark.parametrize(
    "options",
    [{**OPTIONS, "station": ""}, {**OPTIONS, "station": True}, {**OPTIONS, "api_key": ""}, {**OPTIONS, "url": ""}],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AzuraCastSource("azura", STREAMS, options)
    assert "tr0ub4dor" not in str(caught.value)


RECORDED = (FOLDER / "listeners.json").read_bytes()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*entry(), "listeners", "total", "current", "is_online"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=100), st.integers(0, len(RECORDED)), st.integers(0, 60), JSON)
def test_any_damage_is_refused_or_read_and_nothing_else(bytes_: bytes, place: int, cut: int, told: Any) -> None:
    damaged = RECORDED[:place] + bytes_ + RECORDED[place + cut :]
    for body in (damaged, bytes_, json.dumps(told).encode(), json.dumps([told, {**entry(), "ip": told}]).encode()):
        for parse in (parse_listeners, parse_now_playing):
            with contextlib.suppress(MalformedRecord):
                parse(body)
