"""From where and from which page somebody comes to the live figures."""

from __future__ import annotations

import pytest

from aircox_listen_stats.web import door

PROXY = ("198.51.100.0/24",)


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "expected"),
    [
        ("", "radio.example", (), True),
        ("https://radio.example", "radio.example", (), True),
        ("http://radio.example", "radio.example:80", (), True),
        ("http://radio.example:8000", "radio.example:8000", (), True),
        ("http://radio.example:8000", "radio.example", (), False),
        ("https://evil.example", "radio.example", (), False),
        ("https://radio.example.evil.example", "radio.example", (), False),
        ("null", "radio.example", (), False),
        ("null", "radio.example", ("*",), True),
        ("https://", "", (), False),
        ("https://radio.example:port", "radio.example", (), False),
        ("https://player.example", "radio.example", ("https://player.example",), True),
        ("http://player.example", "radio.example", ("https://player.example",), False),
        ("https://player.example:8443", "radio.example", ("https://player.example",), False),
        ("https://player.example", "radio.example", ("player.example",), True),
        ("https://evil.example", "radio.example", ("*",), True),
    ],
)
def test_which_origins_are_let_in(origin, host, allowed, expected):
    assert door.is_allowed(origin, host=host, allowed=allowed) is expected


def test_a_forwarded_host_counts_only_where_django_is_told_so(settings):
    headers = [(b"host", b"127.0.0.1:8000"), (b"x-forwarded-host", b"radio.example")]
    settings.USE_X_FORWARDED_HOST = False
    assert door.asked_host(headers) == "127.0.0.1:8000"
    settings.USE_X_FORWARDED_HOST = True
    assert door.asked_host(headers) == "radio.example"


def key(peer: str | None, *forwarded: str, trusted: tuple[str, ...] = ()) -> bytes | None:
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
    scope = {"client": [peer, 4711] if peer is not None else None, "headers": headers}
    return door.client_key(scope, trusted_proxies=trusted)


LISTENER = key("192.0.2.7")


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted"),
    [
        ("192.0.2.7", [], ()),
        ("192.0.2.7", ["203.0.113.9"], ()),  # a header that anybody can write
        ("::ffff:192.0.2.7", [], ()),
        ("127.0.0.1", ["192.0.2.7"], ()),
        (None, ["192.0.2.7"], ()),  # nginx over a Unix socket
        ("", ["192.0.2.7"], ()),
        ("198.51.100.1", ["192.0.2.7"], PROXY),
        ("198.51.100.1", ["203.0.113.9, 192.0.2.7"], PROXY),  # the left one is invented
        ("198.51.100.1", ["203.0.113.9", "192.0.2.7"], PROXY),
        ("198.51.100.1", ["192.0.2.7, 198.51.100.2"], PROXY),  # two proxies in a row
        ("198.51.100.1", ["nonsense, 192.0.2.7"], PROXY),
    ],
)
def test_the_client_is_the_right_most_address_that_is_no_proxy_s(peer, forwarded, trusted):
    assert key(peer, *forwarded, trusted=trusted) == LISTENER


@pytest.mark.parametrize(
    ("peer", "forwarded"),
    [("127.0.0.1", []), (None, []), ("127.0.0.1", ["192.0.2.7, nonsense"]), ("127.0.0.1", ["unknown"])],
)
def test_a_client_whose_address_is_not_known_is_not_counted_by_address(peer, forwarded):
    assert key(peer, *forwarded) is None


def test_one_ipv6_household_counts_as_one_address():
    assert key("2001:db8:0:1::1") == key("2001:db8:0:1::2")
    assert key("2001:db8:0:1::1") != key("2001:db8:0:2::1")


def test_an_untrusted_proxy_counts_for_itself():
    assert key("198.51.100.1", "192.0.2.7") not in (None, LISTENER)


def test_the_key_does_not_hold_the_address():
    assert b"192.0.2.7" not in LISTENER
    assert bytes([192, 0, 2, 7]) not in LISTENER
