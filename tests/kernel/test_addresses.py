"""Columns of addresses, held against the one spelling of each."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aircox_listen_stats.kernel.addresses import parsed
from aircox_listen_stats.kernel.identity import normalise_ip, packed_ip

octets = st.one_of(
    st.integers(0, 260).map(str), st.sampled_from(["", "00", "01", "0", "255", "256", "1e1", " 1", "-1"])
)
texts = st.one_of(
    st.lists(octets, min_size=3, max_size=5).map(".".join),
    st.integers(0, (1 << 32) - 1).map(lambda one: str(ipaddress.IPv4Address(one))),
    st.integers(0, (1 << 128) - 1).map(lambda one: str(ipaddress.IPv6Address(one))),
    st.integers(0, (1 << 49) - 1).map(lambda one: ipaddress.IPv6Address(one).exploded.upper()),
    st.integers(0, (1 << 32) - 1).map(lambda one: f" [::ffff:{ipaddress.IPv4Address(one)}%eth0] "),
    st.text("0123456789abcdef:.[]%\n ", max_size=20),
    st.text(max_size=5),
)


@settings(max_examples=500)
@given(st.lists(texts, max_size=20))
def test_columns_equal_one_by_one(told: list[str]) -> None:
    found = parsed(told)
    assert len(found) == len(told)
    for row, text in enumerate(told):
        packed = packed_ip(normalise_ip(text))
        assert bool(found.is_address[row]) == (packed is not None)
        if packed is None:
            continue
        whole = packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed
        assert int(found.high[row]).to_bytes(8, "big") + int(found.low[row]).to_bytes(8, "big") == whole
        assert bool(found.is_ipv4[row]) == (len(packed) == 4)
        assert packed_ip(found.text(row)) == packed


@pytest.mark.parametrize("text", ["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201", "[::ffff:192.0.2.1]"])
def test_an_address_of_the_old_kind_is_the_same_however_it_is_written(text: str) -> None:
    found = parsed([text])
    assert found.is_ipv4.tolist() == [True]
    assert found.text(0) == "192.0.2.1"


def test_no_addresses() -> None:
    assert len(parsed([])) == 0
