"""The listener key, and that it ends the address."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aircox_listen_stats.kernel.identity import (
    household_key,
    household_keys,
    listener_key,
    normalise_agent,
    normalise_ip,
)
from aircox_listen_stats.kernel.types import Address

SECRET = b"an ordinary secret of 32 bytes.."


@pytest.mark.parametrize("agent", ["", "-", "Unknown", "  ", "...", "é"])
def test_a_missing_agent_has_one_spelling(agent):
    assert normalise_agent(agent) == ""


@pytest.mark.parametrize(
    "spellings",
    [
        ("VLC/3.0.20 LibVLC/3.0.20", "VLC/3.0.20  LibVLC/3.0.20"),
        ("R..dio..../1.0", "Rädio 日本/1.0", "R\ufffddio/1.0"),  # access log, listclients, callback
        ('Foo "Bar" \\ baz', "Foo .Bar. . baz"),
    ],
)
def test_the_ears_of_one_server_agree_on_an_agent(spellings):
    assert len({normalise_agent(spelling) for spelling in spellings}) == 1


def test_agents_that_differ_stay_apart():
    assert normalise_agent("VLC/3.0.20") != normalise_agent("VLC/3.0.21")


@pytest.mark.parametrize(
    ("given_ip", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1%eth0", "2001:db8::1"),
        ("Not an address", "not an address"),
    ],
)
def test_an_address_has_one_spelling(given_ip, expected):
    assert normalise_ip(given_ip) == expected


def test_the_key_of_a_known_listener():
    """HMAC-SHA256, first eight bytes, top bit cleared: computed with openssl dgst -sha256 -hmac."""
    assert listener_key(Address(ip="192.0.2.7", agent="VLC/3.0.20"), SECRET) == 0x2175064B6923974E


def test_another_secret_gives_another_key():
    address = Address(ip="192.0.2.7", agent="VLC/3.0.20")
    assert listener_key(address, SECRET) != listener_key(address, SECRET + b"!")


def test_ipv4_and_its_ipv6_form_are_one_listener():
    assert listener_key(Address(ip="::ffff:192.0.2.7"), SECRET) == listener_key(Address(ip="192.0.2.7"), SECRET)


def test_an_empty_secret_is_refused():
    with pytest.raises(ValueError, match="secret is empty"):
        listener_key(Address(ip="192.0.2.7"), b"")


def test_no_listener_of_a_network_is_confused_with_another():
    keys = {listener_key(Address(ip=f"198.18.{i >> 8}.{i & 255}"), SECRET) for i in range(4096)}
    assert len(keys) == 4096


@given(st.text(max_size=40), st.text(max_size=80), st.binary(min_size=1, max_size=64))
def test_whatever_a_client_sends_gives_a_key_of_63_bits(ip, agent, secret):
    key = listener_key(Address(ip=ip, agent=agent), secret)
    assert 0 <= key < 2**63
    np.array([key], dtype=np.int64)  # fits a BIGINT


def test_an_address_is_not_printed():
    assert "192.0.2.7" not in f"{Address(ip='192.0.2.7', agent='VLC')!r} {Address(ip='192.0.2.7')}"


def test_the_first_of_a_household_keeps_the_key():
    assert household_key(4711, 0) == 4711


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 50)), max_size=20))
def test_household_keys_of_columns_equal_those_one_by_one(members):
    listener = np.array([key for key, _ in members], dtype=np.int64)
    lane = np.array([lane for _, lane in members], dtype=np.int64)
    assert household_keys(listener, lane).tolist() == [household_key(key, lane) for key, lane in members]


def test_members_of_a_household_differ():
    keys = [household_key(key, lane) for key in range(50) for lane in range(20)]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)


def test_half_a_character_in_an_address_loses_no_listener() -> None:
    """JSON may hold one (``\\ud800``); it must not fail the whole poll."""
    keys = {listener_key(Address(ip=f"192.0.2.1{half}"), b"x") for half in ("", "\ud800", "\udc80", "\udfff")}
    assert len(keys) == 4


def by_ipaddress(text: str) -> str:
    """What the standard library says of an address that is trimmed and in lower case."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@settings(max_examples=500)
@given(
    st.one_of(
        st.lists(st.sampled_from(["0", "1", "01", "255", "256", "", "9"]), min_size=3, max_size=5).map(".".join),
        st.lists(st.sampled_from(["0", "1", "0a", "db8", "ffff", "", "10000"]), min_size=2, max_size=9).map(":".join),
        st.integers(0, (1 << 128) - 1).map(lambda one: str(ipaddress.IPv6Address(one))),
        st.integers(0, (1 << 48) - 1).map(lambda one: str(ipaddress.IPv6Address(one))),
        st.text("0123456789abcdef:.", max_size=20),
    )
)
def test_the_short_way_to_the_one_spelling_is_that_of_the_standard_library(text):
    assert normalise_ip(text) == by_ipaddress(text)
