"""Of a referrer only a host's name is kept, and never one that may be a person's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.referrers import LONGEST_HOST, NONE, better, host_of


@pytest.mark.parametrize(
    ("told", "host"),
    [
        ("https://radio.example/live", "radio.example"),
        ("https://radio.example/ecouter?x=1&mail=me@home.example", "radio.example"),
        ("HTTPS://WWW.Radio.Example:8443/#top", "radio.example"),
        ("http://user:secret@radio.example/", "radio.example"),
        ("http://a@b@radio.example/", None),
        ("https://radio.example.", "radio.example"),
        ("https://radio.example?token=1", "radio.example"),
        ("https://xn--rdio-5na.example/", "xn--rdio-5na.example"),
        ("https://player.radio.xn--p1ai/", "player.radio.xn--p1ai"),
        ("android-app://com.example.radio/", "com.example.radio"),
        ("https://my_page.radio.example/", "my_page.radio.example"),
        ("", NONE),
        ("-", NONE),
        ("https://192.0.2.7/player", None),
        ("https://[2001:db8::1]:8000/player", None),
        ("https://3221225994/", None),
        ("https://laptop/", None),
        ("http://annas-laptop.local/", None),
        ("http://nas.home.arpa/", None),
        ("http://localhost:8000/", None),
        ("radio.example/live", None),
        ("file:///home/anna/player.html", None),
        ("https://radio.example\\@evil.example/", None),
        ("https://räuber.example/", None),
        ("https://-.example/", None),
        ("https:///live", None),
        ("javascript:alert(1)", None),
    ],
)
def test_the_host_of(told: str, host: str | None) -> None:
    assert host_of(told) == host


def test_of_a_long_name_the_end_is_kept() -> None:
    assert host_of("https://" + "a" * 60 + ".b.radio.example/") == "b.radio.example"


@given(st.text(max_size=80), st.sampled_from(["https://", "http://", "", "android-app://"]))
def test_no_text_brings_more_than_a_host(told: str, scheme: str) -> None:
    host = host_of(scheme + told)
    assert host is None or host == NONE or (len(host) <= LONGEST_HOST and not set("/?#@: ") & set(host))


@given(*(st.sampled_from([None, NONE, "a.example", "b.example"]),) * 3)
def test_the_order_of_tellings_changes_nothing(one: str | None, other: str | None, third: str | None) -> None:
    assert better(one, other) == better(other, one)
    assert better(one, better(other, third)) == better(better(one, other), third)
    assert better(one, one) == one
    assert better(NONE, None) == NONE
    assert better("1.example", NONE) == "1.example"
