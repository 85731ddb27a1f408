"""Sockets become listening before any minimum is asked: twins, Range probes and players that reconnect all the time.

On the recorded run of a real Icecast, by its log and by its polls, beside what its clients truly did.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Audience, Session, Stream
from aircox_listen_stats.pipeline import retold, rollup
from aircox_listen_stats.pipeline.ingest import store
from tests.sources.recording import MS, clients, truth

from .conftest import at, heard, poll, told
from .test_reconcile import LOG, polled, station
from .test_rollup import LATER, airing

pytestmark = pytest.mark.django_db

__all__ = ["polled", "station"]

Spans = list[tuple[float, float, float]]
"""Sessions: start and end in seconds from the first client's, and what was played."""


def by_log(streams: dict[str, Stream]) -> Spans:
    """Of the mount /live.mp3, as its log tells it."""
    start_ms = round(truth()["t0"] * MS)
    end_ms = start_ms + 600_000
    found = retold.from_logs([Path(LOG)], streams["live"], "/live.mp3", start_ms, end_ms, now_ms=end_ms)
    columns = found.sessions
    rows = zip(columns.started_ms.tolist(), columns.ended_ms.tolist(), columns.played_ms.tolist(), strict=True)
    return [((a - start_ms) / MS, (b - start_ms) / MS, played / MS) for a, b, played in rows]


def by_polls(streams: dict[str, Stream]) -> Spans:
    start_ms = round(truth()["t0"] * MS)
    return [
        ((to_ms(one.started) - start_ms) / MS, (to_ms(one.ended) - start_ms) / MS, one.played_ms / MS)
        for one in Session.objects.filter(stream=streams["live"])
    ]


EARS: list[tuple[Callable[[dict[str, Stream]], Spans], float]] = [(by_log, 2), (by_polls, 16)]
"""An ear, and how far off an end may be: a poll's is up to its interval early."""


def sockets(*labels: str) -> list[tuple[float, float]]:
    """What these clients truly heard on /live.mp3, in seconds from the first client's start."""
    return sorted(
        ((one.started_ms - truth()["t0"] * MS) / MS, (one.ended_ms - truth()["t0"] * MS) / MS)
        for one in clients()
        if one.label in labels and one.stream == "live" and one.heard
    )


def begun_at(spans: Spans, start: float) -> Spans:
    return sorted(one for one in spans if abs(one[0] - start) <= 1.5)


@pytest.mark.parametrize(("ear", "off"), EARS, ids=["log", "polls"])
def test_a_range_probe_and_the_socket_behind_it_are_one_listener(polled: Any, ear: Any, off: float) -> None:
    """AppleCoreMedia asks for the first bytes and opens its real socket a second later, both from one address."""
    (probe, listening) = sockets("range-probe", "range-open")
    assert probe[1] > listening[0], "they overlap"
    near = [one for one in ear(polled) if probe[0] - 1.5 <= one[0] <= listening[0] + 1.5]
    (one,) = [some for some in near if abs(some[1] - listening[1]) <= off]
    assert one[2] == pytest.approx(listening[1] - one[0], abs=off)
    assert not [some for some in near if some is not one and abs(some[1] - probe[1]) <= 2]


@pytest.mark.parametrize(("ear", "off"), EARS, ids=["log", "polls"])
def test_a_player_that_comes_back_after_a_restart_is_one_session_of_two_parts(
    polled: Any, ear: Any, off: float
) -> None:
    """Icecast was killed and started again; the 404s in between are no listening."""
    first, second = sockets("steady-live-reconnect")
    (one,) = [some for some in begun_at(ear(polled), first[0]) if abs(some[1] - second[1]) <= off]
    assert one[2] == pytest.approx(first[1] - first[0] + second[1] - second[0], abs=2 * off)
    assert one[2] < one[1] - one[0]


@pytest.mark.parametrize(("ear", "off"), EARS, ids=["log", "polls"])
def test_two_of_one_household_are_two_and_neither_is_lost(polled: Any, ear: Any, off: float) -> None:
    """The same address and agent for a minute at the same time: too long for a probe."""
    for start, end in sockets("twin-A", "twin-B"):
        found = [one for one in begun_at(ear(polled), start) if abs(one[1] - end) <= off]
        assert len(found) == 1


def test_a_twin_that_begins_and_ends_with_the_other_is_one(stream: Stream) -> None:
    """A player with two sockets for one stream."""
    store(told(heard(1, 0, 600, ended=True, who=9), heard(2, 4, 603, ended=True, who=9)), now_ms=at(700))
    assert [(one.played_ms, one.listener) for one in Session.objects.all()] == [
        (603_000, Session.objects.get().listener)
    ]


@pytest.mark.parametrize("is_polled", [False, True])
def test_a_player_that_reconnects_every_35_seconds_counts_as_it_listens(stream: Stream, is_polled: bool) -> None:
    """No socket of it lasts for the minute that the rule-set asks for; together they last for twenty."""
    lines = [heard(number, number * 36, number * 36 + 35, ended=True, who=9) for number in range(34)]
    if is_polled:
        for seconds in range(15, 34 * 36, 15):
            number, since = divmod(seconds, 36)
            shown = [heard(number, number * 36, seconds, who=9)] if since < 35 else []
            store(poll(seconds, *shown), now_ms=at(seconds))
        store(poll(34 * 36 + 15), now_ms=at(34 * 36 + 15))
    else:
        store(told(*lines), now_ms=at(1300))
    one = airing(0, 1224)
    rollup.refresh(1, at(0), at(1224), now_ms=LATER)
    audience = Audience.objects.get(airing=one)
    assert (Session.objects.count(), audience.sessions, audience.listeners) == (1, 1, 1)
    assert audience.listening_ms >= (0.55 if is_polled else 0.97) * 1224_000
    assert Session.objects.get().started == from_ms(at(0))
