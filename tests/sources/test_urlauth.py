"""Callbacks of URL authentication: what they say, and what of them is dropped at once."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.errors import MalformedRecord
from aircox_listen_stats.kernel.identity import is_canonical_ip
from aircox_listen_stats.kernel.types import ListenerMark
from aircox_listen_stats.sources import urlauth
from aircox_listen_stats.sources.urlauth import UrlAuthSource, observations, parse_body, payload_of
from tests.sources.recording import FOLDER, MS, rows

ADD = (
    b"action=listener_add&server=radio%2eexample&port=8000&client=54&mount=%2flive%2emp3&user=&pass="
    b"&ip=192%2e0%2e2%2e7&agent=VLC%2f3%2e0%2e20"
)
REMOVE = ADD.replace(b"listener_add", b"listener_remove") + b"&duration=295"
WRITTEN = (
    b"%41",
    b"%e9",
    b"%",
    b"%%",
    b"%zz",
    b"%4",
    b"=",
    b"=41",
    b"==",
    b"\r",
    b"\n",
    b"a",
    b"%0a",
    b"%3d",
    b" ",
    b"_",
)
RECEIVED_MS = 1_795_312_800_750
MARK = ListenerMark(listener=7, previous=None, country="BE", app="VLC")


def one(body: bytes, **changed: Any) -> Any:
    payload = payload_of(parse_body(body), stream="live", mark=MARK)
    (told,) = observations({**json.loads(json.dumps(payload)), **changed}, received_ms=RECEIVED_MS)
    return told


def test_a_referrer_that_icecast_passes_on_is_kept_as_its_host() -> None:
    assert one(ADD).referrer is None
    told = ADD + b"&ClientHeader.referer=https%3a%2f%2fradio%2eexample%2flive%3fu%3d1"
    assert one(told).referrer == "radio.example"
    assert "live%3fu" not in json.dumps(payload_of(parse_body(told), stream="live", mark=MARK))
    [recorded] = [row for row in rows("url_auth.jsonl") if "ClientHeader.referer" in row.get("raw_body", "")]
    assert parse_body(recorded["raw_body"].encode()).referrer == "radio.example"


def test_an_added_listener_is_open_from_the_callback_on() -> None:
    told = one(ADD)
    assert (told.client, told.stream, told.ended) == ("54", "live", False)
    assert (told.started_ms, told.seen_ms) == (RECEIVED_MS, RECEIVED_MS)
    assert told.mark == MARK


def test_a_removed_listener_began_its_duration_before_the_second_of_the_callback() -> None:
    told = one(REMOVE)
    assert (told.ended, told.seen_ms) == (True, RECEIVED_MS)
    assert told.started_ms == (RECEIVED_MS // MS - 295) * MS


def test_a_duration_of_nothing_is_no_listening() -> None:
    told = one(REMOVE.replace(b"295", b"0"))
    assert told.started_ms == told.seen_ms == RECEIVED_MS


@pytest.mark.parametrize(
    ("written", "agent"),
    [
        (b"R%c3%a4dio%e2%82%ac", "Rädio€"),
        (b"Caf%e9%2f1", "Café/1"),
        (b"Caf\xe9%2f1", "Café/1"),
        (b"%2d", "-"),
        (b"", ""),
        (b"a%3db%26c%00d", "a=b&c\0d"),
        (b"50%25%zz+x", "50%%zz x"),
        (b"L" + b"o" * 2000 + b"ng", "L" + "o" * 2000 + "ng"),
    ],
)
def test_agents_are_raw_bytes(written: bytes, agent: str) -> None:
    event = parse_body(ADD.replace(b"VLC%2f3%2e0%2e20", written))
    assert event.address is not None
    assert event.address.agent == agent


def test_a_mounts_query_is_cut_and_kept_nowhere() -> None:
    event = parse_body(ADD.replace(b"%2flive%2emp3", b"%2flive%2emp3%3ftoken%3dabc%26listener%3d42"))
    assert event.mount == "/live.mp3"
    assert "abc" not in repr(event)
    assert "abc" not in json.dumps(payload_of(event, stream="live", mark=MARK))


def test_users_and_passwords_are_dropped() -> None:
    body = ADD.replace(b"user=&pass=", b"user=bob&pass=hunter2&PASS=hunter2&%70ass=hunter2")
    event = parse_body(body)
    for kept in (repr(event), json.dumps(payload_of(event, stream="live", mark=MARK))):
        assert "hunter2" not in kept
        assert "bob" not in kept


def test_the_inbox_keeps_neither_address_nor_agent() -> None:
    kept = json.dumps(payload_of(parse_body(REMOVE), stream="live", mark=MARK))
    assert "192.0.2" not in kept
    assert "VLC/3" not in kept


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        (b"%3a%3a1", "::1"),
        (b"2001%3adb8%3a%3a7", "2001:db8::7"),
        (b"%3a%3affff%3a192%2e0%2e2%2e7", "192.0.2.7"),
    ],
)
def test_ipv6(ip: bytes, expected: str) -> None:
    event = parse_body(ADD.replace(b"192%2e0%2e2%2e7", ip))
    assert event.address is not None
    assert event.address.ip == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected", "known"),
    [
        ("192.0.2.7", "198.51.100.1", (), "192.0.2.7", True),
        ("192.0.2.7", "198.51.100.1", ("127.0.0.0/8",), "192.0.2.7", True),
        ("127.0.0.1", "198.51.100.1", ("127.0.0.0/8",), "198.51.100.1", True),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1", ("127.0.0.0/8",), "198.51.100.1", True),  # never the first
        ("127.0.0.1", "203.0.113.9, 198.51.100.1, 127.0.0.2", ("127.0.0.0/8",), "198.51.100.1", True),
        ("127.0.0.1", "203.0.113.9, rubbish", ("127.0.0.0/8",), "127.0.0.1", False),
        ("127.0.0.1", "", ("127.0.0.0/8",), "127.0.0.1", False),
        ("127.0.0.1", "2001:db8::5", ("127.0.0.0/8", "2001:db8::/64"), "2001:db8::5", False),
    ],
)  # fmt: skip
def test_a_forwarded_address_is_believed_from_our_own_proxies_alone(
    peer: str, forwarded: str, trusted: tuple[str, ...], expected: str, known: bool
) -> None:
    body = ADD.replace(b"192%2e0%2e2%2e7", peer.encode()) + b"&ClientHeader.x-forwarded-for=" + forwarded.encode()
    event = parse_body(body, trusted_proxies=trusted)
    assert event.address is not None
    assert (event.address.ip, event.identity_known) == (expected, known)


def test_recorded_forwarded_addresses() -> None:
    """Three clients came through the proxy on loopback; one sent the header itself."""
    found = {}
    for row in rows("url_auth.jsonl"):
        if "x-forwarded-for" in row["raw_body"]:
            event = parse_body(row["raw_body"].encode(), trusted_proxies=("127.0.0.1/32",))
            assert event.address is not None
            found[event.address.agent] = event.address.ip
    assert found == {"fwd/1": "127.0.0.40", "proxied/1": "127.0.0.41", "proxied/4": "127.0.0.43"}


@pytest.mark.parametrize("action", ["mount_add", "mount_remove", "stream_auth"])
def test_other_callbacks_are_taken_and_say_nothing_of_listeners(action: str) -> None:
    event = parse_body(f"action={action}&mount=%2flive%2emp3&server=x&port=8000&user=source&pass=hackme".encode())
    assert not event.is_listener
    assert event.address is None
    assert observations({"action": action}, received_ms=RECEIVED_MS) == ()


def test_every_malformed_body_is_refused_without_telling_it() -> None:
    for body in (FOLDER / "malformed_url_auth.txt").read_bytes().split(b"\n")[:-1]:
        with pytest.raises(MalformedRecord) as caught:
            parse_body(body)
        assert caught.value.reason.isidentifier()
        assert "192" not in str(caught.value)


@pytest.mark.parametrize("body", [b"x" * (urlauth.MAX_BODY_BYTES + 1), b"&" * 1000, b"%" * 60_000])
def test_bodies_without_measure_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedRecord):
        parse_body(body)


@given(st.binary(max_size=60), st.integers(0, len(REMOVE)), st.integers(0, 30))
def test_any_damage_to_a_body_is_refused_or_read(bytes_: bytes, place: int, cut: int) -> None:
    for body in (REMOVE[:place] + bytes_ + REMOVE[place + cut :], bytes_):
        try:
            event = parse_body(body, trusted_proxies=("127.0.0.0/8",))
        except MalformedRecord:
            continue
        if event.is_listener:
            payload_of(event, stream="live", mark=MARK)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["action", "client", "stream", "duration_s", "mark", "identity_known"]), JSON))
def test_any_inbox_row_is_refused_or_read(payload: dict[str, Any]) -> None:
    for action in (payload.get("action"), "listener_add", "listener_remove"):
        with contextlib.suppress(MalformedRecord):
            observations({**payload, "action": action}, received_ms=RECEIVED_MS)


def test_the_push_source_gives_the_same() -> None:
    payload = payload_of(parse_body(REMOVE), stream="live", mark=MARK)
    source = UrlAuthSource("callbacks", {"/live.mp3": "live"}, {})
    assert source.receive(payload, received_ms=RECEIVED_MS) == observations(payload, received_ms=RECEIVED_MS)


@given(st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(WRITTEN), max_size=12).map(b"".join)))
def test_escapes_are_read_as_urllib_reads_them(written: bytes) -> None:
    assert urlauth._unquoted(written) == unquote_to_bytes(written)


@given(
    st.one_of(
        st.text(max_size=20),
        st.lists(st.sampled_from(["1", "01", "255", "256", ".", ":", "::", "ffff", "%", " ", "٣", "\0"])).map("".join),
    )
)
def test_an_address_that_is_taken_as_it_stands_is_the_one_that_ipaddress_would_write(text: str) -> None:
    if is_canonical_ip(text):
        assert str(ipaddress.ip_address(text)) == text
