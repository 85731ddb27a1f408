"""Whatever is sent to a parser, it answers or refuses: no other exception, no address in an error, in bounded time.

What it answers can be forgotten and stored: a key, a country and an app are
made of every address, and every number fits its column.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import strategies as st

from aircox_listen_stats.errors import MalformedRecord, SourceUnavailable
from aircox_listen_stats.kernel import lists
from aircox_listen_stats.kernel.types import Address
from aircox_listen_stats.pipeline import recognise
from aircox_listen_stats.pipeline.secrets import Secrets
from aircox_listen_stats.sources import (
    accesslog,
    azuracast,
    base,
    follow,
    hls,
    icecast,
    icecast_totals,
    lahmacun,
    logblocks,
    player_events,
    shoutcast,
    stamps,
    stream_events,
    urlauth,
)
from tests import fuzzing
from tests.fuzzing import anything, fuzzed, told_or_refused
from tests.sources import player_recording

DATA = Path(__file__).resolve().parent.parent / "data"
NOW_MS = 1_795_312_800_750
BIGGEST = 2**63 - 1
SECRETS = Secrets(current=b"x" * 32, previous=b"y" * 32)
MOUNTS = {"/live.mp3": "live", "/low.mp3": "low", "/hls/radio/": "hls"}
BRUSSELS = ZoneInfo("Europe/Brussels")


@cache
def files(*patterns: str) -> tuple[bytes, ...]:
    found = tuple(path.read_bytes() for pattern in patterns for path in sorted(DATA.glob(pattern)))
    assert found, f"nothing of tests/data is called {patterns}"
    return found


@cache
def lines(*patterns: str, most: int = 400) -> tuple[bytes, ...]:
    """Lines of the files, evenly out of each."""
    found = []
    for text in files(*patterns):
        some = text.split(b"\n")
        found += some[:: max(1, len(some) // most)]
    return tuple(found)


@cache
def callbacks() -> tuple[bytes, ...]:
    recorded = [json.loads(line)["raw_body"].encode() for line in lines("icecast/url_auth.jsonl") if line]
    forwarded = recorded[-1] + b"&ClientHeader.x-forwarded-for=198%2e51%2e100%2e7%2c%20203%2e0%2e113%2e9"
    return (*recorded, forwarded, *lines("icecast/malformed_url_auth.txt"))


@cache
def polls() -> tuple[bytes, ...]:
    recorded = [json.loads(line) for line in lines("icecast/polls.jsonl", most=60) if line]
    return tuple(one["body"].encode() for one in recorded)


def forget(address: Address) -> None:
    """Everything that is made of an address, as the pipeline makes it."""
    made = recognise.mark(address, SECRETS)
    assert 0 <= made.listener <= BIGGEST
    stored = json.dumps([made.country, made.app, made.exclusion, made.rule], ensure_ascii=False)
    stored.encode()
    assert "\0" not in made.app
    assert len(made.app) <= 48
    assert len(made.country) in (0, 2)


def assert_fits(*numbers: int | None) -> None:
    for number in numbers:
        assert number is None or (type(number) is int and -BIGGEST <= number <= BIGGEST)


def assert_text(*texts: str) -> None:
    """Each can be written into a database and compared."""
    for text in texts:
        text.encode()


def assert_observations(told: Iterable[Any]) -> None:
    for one in told:
        assert one.stream in MOUNTS.values()
        assert one.started_ms <= one.seen_ms
        assert_fits(one.started_ms, one.seen_ms, one.bytes_sent)
        if one.client is not None:
            assert len(one.client) <= 64
            assert_text(one.client)
        if one.address is not None:
            forget(one.address)


# Lines ------------------------------------------------------------------------------------------


@fuzzed(lambda: anything(lines("icecast/*access.log")))
def test_access_log_lines(line: bytes) -> None:
    told = told_or_refused(accesslog.parse_line, line)
    if told is not None:
        assert_fits(told.ended_s * 1000, told.started_s * 1000, told.bytes_sent, told.status)
        assert 0 <= told.started_s <= told.ended_s
        accesslog.stream_of(told, MOUNTS)
        forget(told.address)


@fuzzed(lambda: st.lists(anything(lines("icecast/*access.log")), max_size=12))
def test_blocks_of_an_access_log_say_what_its_lines_say(some: list[bytes]) -> None:
    block = b"".join(line.replace(b"\n", b"") + b"\n" for line in some)
    with fuzzing.bounded():
        columns = logblocks.BlockReader(MOUNTS).read(block, len(block))
    kept, counts = [], Counter[str]()
    slugs = sorted(set(MOUNTS.values()))
    for line in block.split(b"\n"):
        if not line:
            continue
        counts["read"] += 1
        try:
            told = accesslog.parse_line(line)
        except MalformedRecord as error:
            counts[f"refused_{error.reason}"] += 1
            continue
        stream, reason = accesslog.stream_of(told, MOUNTS)
        if reason:
            counts[f"skipped_{reason}"] += 1
            continue
        kept.append((slugs.index(stream), told.started_s * 1000, told.ended_s * 1000, told.address))
    found = [
        (stream, started_ms, ended_ms, Address(ip=columns.ips[ip], agent=columns.agents[agent]))
        for stream, started_ms, ended_ms, ip, agent in zip(
            columns.stream.tolist(),
            columns.started_ms.tolist(),
            columns.ended_ms.tolist(),
            columns.ip.tolist(),
            columns.agent.tolist(),
            strict=True,
        )
    ]
    assert found == kept
    assert {name: count for name, count in columns.counts.items() if count} == {
        **counts,
        **({"kept": len(kept)} if kept else {}),
    }


@fuzzed(lambda: anything(lines("hls/*.log")))
def test_hls_lines(line: bytes) -> None:
    told = told_or_refused(hls.parse_line, line)
    if told is not None:
        assert_fits(told.ended_ms, told.duration_ms, told.bytes_sent, told.status)
        hls.part_of(told, hls.groups({"/hls/radio/": "hls", "/hls/": "all"}))
        ip, _ = urlauth.beyond_proxies(told.address.ip, told.forwarded, ("127.0.0.0/8",))
        forget(Address(ip=ip, agent=told.address.agent))
        assert_text(told.session)


@fuzzed(lambda: st.tuples(*(anything([b"bytes=0-1023", b"/hls/radio/hi_1.ts?sid=a", b"GET"]),) * 3))
def test_requests_of_segments_with_any_range(parts: tuple[bytes, ...]) -> None:
    asked, target, method = (part.decode("latin-1") for part in parts)
    for status in (200, 206, 304, 404):
        made = hls.request(method=method, target=target, status=status, bytes_sent=7, asked=asked, is_complete=True)
        hls.part_of(made, hls.groups({"/hls/radio/": "hls"}))
        hls.session_in(target, "sid")


@fuzzed(lambda: anything([b"22/Nov/2026:01:48:42 +0000", b"29/Feb/2024:23:59:60 -1130"]))
def test_stamps(stamp: bytes) -> None:
    for _ in range(2):  # the second time its hour may be remembered
        told = told_or_refused(stamps.instant, stamp)
        if told is not None:
            assert -86_400 <= told < 2**38


@fuzzed(lambda: anything(files("icecast/*access.log")[:1] + lines("icecast/*access.log")))
def test_the_first_stamp_of_a_followed_log(head: bytes) -> None:
    with fuzzing.bounded():
        follow.first_stamp(head, lambda line: accesslog.parse_line(line).ended_s)


@fuzzed(lambda: anything(files("lahmacun/*.csv")))
def test_lahmacun_files(text: bytes) -> None:
    day = told_or_refused(
        lambda told: lahmacun.read_day(told.decode("utf-8", "replace"), date=dt.date(2026, 3, 28), zone=BRUSSELS), text
    )
    if day is not None:
        assert_fits(*day.span_ms)
        for listener in day.listeners:
            assert all(start <= end for start, end in listener.sessions)
            forget(listener.address)
        assert day.flags.rows == day.counts.get("kept", 0)


REPEATED = (b"[", b"]", b"[] ", b'"', b'\\"', b"\\", b' "-"', b" ", b"%", b"%2", b"1", b"1/", b"../", b"a", b"\xff")


@pytest.mark.parametrize("kind", ["access log", "JSON of nginx", "combined of nginx", "segment"])
def test_a_long_line_of_one_thing_takes_no_longer_than_another(kind: str) -> None:
    """A pattern that tries every place up to the end would take minutes for one such line."""
    line, read = {
        "access log": (lines("icecast/icecast_access.log")[0], accesslog.parse_line),
        "JSON of nginx": (lines("hls/nginx_hls_json.log")[0], hls.parse_line),
        "combined of nginx": (lines("hls/nginx_hls_combined.log")[0], hls.parse_line),
        "segment": (b"/hls/radio/hi_1.ts?sid=a", _segment),
    }[kind]
    with fuzzing.bounded():
        for piece in REPEATED:
            long = piece * (60_000 // len(piece))
            for at in range(0, len(line), max(1, len(line) // 12)):
                told_or_refused(read, line[:at] + long + line[at:])


def _segment(target: bytes) -> Any:
    told = target.decode("latin-1")
    made = hls.request(method="GET", target=told, status=200, bytes_sent=1, asked=told, is_complete=True)
    return hls.part_of(made, hls.groups({"/hls/radio/": "hls"}))


# Pages ------------------------------------------------------------------------------------------

PAGES: dict[str, tuple[Callable[[bytes], Any], Callable[[], tuple[bytes, ...]]]] = {
    "icecast stats": (icecast.parse_stats, lambda: files("icecast/*stats.xml") + polls()),
    "icecast listclients": (
        lambda page: icecast.parse_listclients(page, "/live.mp3"),
        lambda: files("icecast/*listclients*.xml") + polls(),
    ),
    "icecast totals": (icecast_totals.parse_status, lambda: files("icecast/status-json*.json")),
    "azuracast listeners": (azuracast.parse_listeners, lambda: files("azuracast/*listeners.json")),
    "azuracast now playing": (azuracast.parse_now_playing, lambda: files("azuracast/nowplaying*.json")),
    "shoutcast listeners": (shoutcast.parse_listeners, lambda: files("shoutcast/*listeners*", "shoutcast/*uid*")),
    "shoutcast summary": (shoutcast.parse_count, lambda: files("shoutcast/summary*")),
}


@pytest.mark.parametrize("name", PAGES)
def test_pages(name: str) -> None:
    parse, samples = PAGES[name]

    @fuzzed(lambda: anything(samples()))
    def stands(page: bytes) -> None:
        told = told_or_refused(parse, page)
        for one in told if isinstance(told, tuple) else ():
            if hasattr(one, "address"):
                forget(one.address)

    stands()


SOURCES: dict[str, tuple[type[base.Source], dict[str, Any], Callable[[], tuple[bytes, ...]]]] = {
    "icecast": (
        icecast.IcecastSource,
        {"url": "http://127.0.0.1:9", "password": "x"},
        lambda: files("icecast/*.xml") + polls(),
    ),
    "icecast_totals": (
        icecast_totals.IcecastTotalsSource,
        {"url": "http://127.0.0.1:9"},
        lambda: files("icecast/status-json*.json"),
    ),
    "azuracast": (
        azuracast.AzuraCastSource,
        {"url": "http://127.0.0.1:9", "station": "1", "api_key": "k"},
        lambda: files("azuracast/*.json"),
    ),
    "shoutcast": (
        shoutcast.ShoutcastSource,
        {"url": "http://127.0.0.1:9", "password": "x"},
        lambda: files("shoutcast/*"),
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_poll_of_such_pages_is_a_report_or_unavailable(name: str) -> None:
    """Two polls in a row, each page another one, with the first one's cursor through JSON."""
    kind, options, samples = SOURCES[name]
    mounts = {"1": "live"} if name == "shoutcast" else {"/live.mp3": "live", "/low.mp3": "low"}
    source: Any = kind(name, mounts, options)

    @fuzzed(lambda: st.lists(st.one_of(st.sampled_from(samples()), anything(samples())), min_size=1, max_size=4))
    def stands(pages: list[bytes]) -> None:
        asked = iter(range(1_000))
        source.transport = httpx.MockTransport(
            lambda request: httpx.Response(200, content=pages[next(asked) % len(pages)])
        )
        source.close()  # its client keeps the transport
        cursor: dict[str, Any] = {}
        for now_ms in (NOW_MS, NOW_MS + 15_000):
            try:
                with fuzzing.bounded():
                    report = source.pull(cursor, now_ms=now_ms)
            except SourceUnavailable as error:
                fuzzing.assert_quotes_no_address(error, b"".join(pages), own=[b"127.0.0.1"])
                continue
            assert_observations(report.observations)
            cursor = json.loads(json.dumps(dict(report.cursor or {})))
            assert all(type(count) is int for count in (report.totals or {}).values())

    stands()
    source.close()


# What is posted ---------------------------------------------------------------------------------


@fuzzed(lambda: anything(callbacks()))
def test_callbacks(body: bytes) -> None:
    for proxies in ((), ("127.0.0.0/8", "2001:db8::/32")):
        event = told_or_refused(lambda told, proxies=proxies: urlauth.parse_body(told, trusted_proxies=proxies), body)
        if event is None or not event.is_listener:
            continue
        assert event.address is not None
        forget(event.address)
        mark = recognise.mark(event.address, SECRETS)
        payload = json.loads(json.dumps(urlauth.payload_of(event, stream="live", mark=mark)))
        assert_observations(urlauth.observations(payload, received_ms=NOW_MS))


@fuzzed(lambda: st.tuples(anything([b"192.0.2.7", b"127.0.0.1"]), anything([b"198.51.100.1, 203.0.113.9, 127.0.0.1"])))
def test_lists_of_forwarded_addresses(told: tuple[bytes, bytes]) -> None:
    ip, forwarded = (part.decode("utf-8", "replace") for part in told)
    with fuzzing.bounded():
        nearest, _ = urlauth.beyond_proxies(ip, forwarded, ("127.0.0.0/8", "2001:db8::/32"))
        urlauth.is_within(ip, ("127.0.0.0/8",))
    forget(Address(ip=nearest))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("listener_remove")),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=6,
)

CALLBACK = {
    "action": "listener_remove",
    "client": "54",
    "stream": "live",
    "duration_s": 9,
    "identity_known": True,
    "mark": {"listener": 7, "previous": None, "country": "", "app": "", "exclusion": "", "rule": ""},
}
STRETCH, HEARD_MS = player_recording.stretches()[-1]


@fuzzed(lambda: st.tuples(st.sampled_from([*CALLBACK, *STRETCH, "else"]), JSON))
def test_rows_of_the_inbox(changed: tuple[str, Any]) -> None:
    for read, row, at_ms in (
        (urlauth.observations, CALLBACK, NOW_MS),
        (player_events.observation, STRETCH, HEARD_MS),
    ):
        assert read(row, received_ms=at_ms)
        for told in ({**row, changed[0]: changed[1]}, {changed[0]: changed[1]}):
            told_or_refused(lambda _, read=read, told=told, at_ms=at_ms: read(told, received_ms=at_ms), b"")


def stream_event_bodies() -> tuple[bytes, ...]:
    whole = files("stream_events/*.json")
    return whole + tuple(json.dumps(one[:3]).encode() for one in map(json.loads, whole) if isinstance(one, list))


@fuzzed(lambda: anything(stream_event_bodies()))
def test_stream_events(body: bytes) -> None:
    source: Any = stream_events.StreamEventsSource("events", MOUNTS, {"target_seconds": 4})
    for one in told_or_refused(stream_events.decode, body) or ():
        if isinstance(one, tuple):
            refused, raw = one
            assert isinstance(refused, stream_events.BadField)
            json.loads(raw)
            continue

        def heard(_: bytes, event: Any = one) -> Iterator[Any]:
            request, _ = source.request(event, now_ms=NOW_MS)
            address, _ = source.address_of(event)
            forget(address)
            if request is not None:
                assert_fits(request.started_ms, request.ended_ms, request.bytes_sent, request.number)
                assert_text(request.stream, request.rendition, request.method)
            return request

        told_or_refused(heard, body)


# Lists of the settings ------------------------------------------------------------------------------


@fuzzed(
    lambda: anything(
        [
            b'[{"pattern": "VLC|vlc", "name": "VLC"}]',
            b'{"entries": [{"pattern": "^Bot/(\\\\d+)", "name": "Bot", "examples": ["Bot/1"]}]}',
        ]
    )
)
def test_lists_of_agents(text: bytes) -> None:
    listed = told_or_refused(lists.parse_agents, text, ValueError)
    if listed is not None:
        with fuzzing.bounded():
            listed.name("Mozilla/5.0 (X11; Linux x86_64) VLC/3.0.20")


@fuzzed(
    lambda: anything(
        [
            b"192.0.2.0/24\n2001:db8::/32\n",
            b'{"prefixes": [{"ip_prefix": "198.51.100.0/24"}, {"ipv6Prefix": "2001:db8::/48"}]}',
        ]
    )
)
def test_lists_of_networks(text: bytes) -> None:
    found: list[Any] = []
    with fuzzing.bounded(), contextlib.suppress(ValueError):  # it names the network, which is a provider's
        found = lists.networks_of(text.decode("utf-8", "replace"), "cloud")
    lists.CloudNetworks(found).provider("192.0.2.7")


def test_the_fuzz_itself_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """An undocumented exception, an address in an error, a reason that holds a value, and no end: all fail."""

    def quoting(told: bytes) -> Any:
        raise MalformedRecord("ip", f"No address: {told.decode()}")

    def undocumented(told: bytes) -> Any:
        raise KeyError("ip")

    def with_a_value(told: bytes) -> Any:
        raise MalformedRecord("client 54")

    def endless(told: bytes) -> Any:
        while True:
            pass

    for parse, error in ((quoting, AssertionError), (undocumented, KeyError), (with_a_value, AssertionError)):
        with pytest.raises(error):
            told_or_refused(parse, b"192.0.2.7")
    with pytest.raises(AssertionError, match="not done"), fuzzing.bounded(0.2):
        endless(b"")
