"""The settings dict: what is wrong is refused by name, with what exists."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import override_settings

from aircox_listen_stats import conf
from aircox_listen_stats.errors import ConfigurationError

ICECAST = {"backend": "icecast", "url": "http://127.0.0.1:8000", "password": "word"}


def test_nothing_given_is_a_station_that_hears_nothing() -> None:
    given = conf.read({})
    assert (given.streams, given.sources, given.rule_set, given.monitor_hook) == ({}, {}, "triton", False)
    assert given.broadcast_day_start == dt.time(4)


def test_a_stream_and_its_source_are_read_with_their_types() -> None:
    given = conf.read(
        {
            "SOURCES": {"main": ICECAST},
            "STREAMS": {"mp3": {"source": "main", "mount": "/live.mp3", "delay_seconds": 6}},
            "LIVE": {"stale_seconds": 20, "allowed_origins": ["https://radio.example"]},
        }
    )
    assert given.sources["main"].backend == "icecast"
    assert given.sources["main"].options == {"url": "http://127.0.0.1:8000", "password": "word"}
    assert given.streams["mp3"].delay_seconds == 6.0
    assert given.live.allowed_origins == ("https://radio.example",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"STREMS": {}}, ["'STREMS'", "Did you mean 'STREAMS'?"]),
        ({"SOURCES": {"main": {"url": "x"}}}, ["'main'", "'backend'"]),
        ({"STREAMS": {"mp3": {"source": "iceacst"}}, "SOURCES": {"icecast": ICECAST}}, ["'iceacst'", "icecast"]),
        ({"STREAMS": {"mp3": {}}, "SOURCES": {"main": ICECAST}}, ["STREAMS['mp3']", "'source'"]),
        ({"STREAMS": ["mp3"]}, ["STREAMS", "dict of dicts"]),
        ({"LIVE": {"public": "yes"}}, ["LIVE['public']", "'yes'", "bool"]),
        ({"LIVE": {"stale": 3}}, ["'stale'", "stale_seconds"]),
        ({"KEY_ROTATION": "year"}, ["'year'", "day, week, month"]),
        ({"BROADCAST_DAY_STARTS": "4 o'clock"}, ["4 o'clock", "'04:00'"]),
        ({"TIME_ZONE": "Europe/Brusels"}, ["Europe/Brusels", "Europe/Brussels"]),
        ({"RULE_SET": "mine"}, ["'mine'", "triton"]),
        ({"EXCLUDE": {"staff_networks": ["192.0.2.0/33"]}}, ["EXCLUDE", "192.0.2.0/33", "'192.0.2.0/24'"]),
        ({"EXCLUDE": {"monitor_agents": ["…"]}}, ["EXCLUDE"]),
        ({"TRUSTED_PROXIES": ["proxy.example.org"]}, ["TRUSTED_PROXIES", "proxy.example.org", "'192.0.2.0/24'"]),
        ({"RULE_SETS": {"mine": {"minimum": 3}}}, ["'minimum'", "minimum_seconds"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(given: dict, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        conf.read(given)
    for word in words:
        assert word in str(refused.value)


def test_a_token_is_not_repeated_in_an_error() -> None:
    with pytest.raises(ConfigurationError) as refused:
        conf.read({"CALLBACK_TOKENS": ["very-secret-word"]})
    assert "very-secret-word" not in str(refused.value)


def test_a_stations_own_rule_set_stands_beside_the_trades() -> None:
    given = conf.read({"RULE_SETS": {"ours": {"minimum_seconds": 120}}, "RULE_SET": "ours"})
    assert given.rules().minimum_seconds == 120
    assert given.rules("acpm30").minimum_is_strict
    with pytest.raises(ConfigurationError, match="ours"):
        given.rules("theirs")


def test_the_settings_follow_an_override() -> None:
    with override_settings(AIRCOX_LISTEN_STATS={"RULE_SET": "all"}):
        assert conf.get().rule_set == "all"
    assert conf.get().rule_set == "triton"
