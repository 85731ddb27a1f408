"""What Chromium sent of a web player, as a server heard it, and what no player should send.

``tests/browser/test_player.py`` records it anew in each run, fails when
Chromium sends otherwise, and says where the new recording is. What
``tests/web/test_player_events.py`` expects of STATION was worked out by hand.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from aircox_listen_stats.kernel import player
from aircox_listen_stats.kernel.types import ListenerMark
from aircox_listen_stats.sources import player_events
from aircox_listen_stats.web.player_events import Told

FOLDER = Path(__file__).resolve().parent.parent / "data" / "player_events"
STATION = "chromium.jsonl"
"""The stream, a pause, a recording, a seek, another tab, and a reload, on the station's own page."""
ELSEWHERE = "chromium_elsewhere.jsonl"
"""The stream on a page of another origin."""
WITHOUT_BEACONS = "chromium_without_beacons.jsonl"
"""A recording in a browser that has no ``navigator.sendBeacon``."""
ALL = (STATION, ELSEWHERE, WITHOUT_BEACONS)


@cache
def requests(name: str) -> tuple[dict[str, Any], ...]:
    """Each with ``at_ms`` (when it came), ``method``, ``headers``, ``body`` and the ``status`` of the answer."""
    return tuple(json.loads(line) for line in (FOLDER / name).read_text().splitlines())


@cache
def bodies() -> tuple[bytes, ...]:
    """Every event that was told."""
    return tuple(one["body"].encode("latin-1") for name in ALL for one in requests(name) if one["body"])


def origin_elsewhere() -> str:
    """The other site of ELSEWHERE."""
    return requests(ELSEWHERE)[0]["headers"]["origin"]


@cache
def malformed() -> tuple[dict[str, Any], ...]:
    """Each with its ``name``, the ``status`` that answers it, the ``body`` (latin-1), and ``type`` where it matters.

    ``VISIT`` in a body stands for a visit that is valid.
    """
    return tuple(json.loads((FOLDER / "malformed.json").read_text()))


def stretches(name: str = STATION) -> list[tuple[dict[str, Any], int]]:
    """The rows of the Inbox that become of the live listening, while it goes on and once it is over, and when."""
    told = [
        player.Told(sequence=event.sequence, state=event.state, at_ms=at_ms - event.age_ms, medium=("stream", 1))
        for at_ms, event in _events(name)
        if event.duration_ms is None
    ]
    rows = []
    for heard in range(1, len(told) + 1):
        now_ms = told[heard - 1].at_ms
        for stretch in player.played(told[:heard], now_ms=now_ms):
            mark = ListenerMark(listener=7, country="BE", app="Chrome")
            rows.append((player_events.payload_of(stretch, stream="live", visit=2**62 + 5, mark=mark), now_ms))
    return rows


def _events(name: str) -> list[tuple[int, Told]]:
    """When each came, and what it told."""
    told = [(one["at_ms"], one["body"]) for one in requests(name) if one["body"]]
    return [(at_ms, msgspec.json.decode(body, type=Told)) for at_ms, body in told]
