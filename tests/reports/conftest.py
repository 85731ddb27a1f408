"""A station of two streams in Brussels, with a crowd around the night in which the clock goes back."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import LONG_SESSION_MS, Airing, Coverage, Session, Stream
from aircox_listen_stats.pipeline import cumes, quarters, retention, rollup

from .seconds import Seconds, Told

NAMES = ("triton", "all")
ORIGIN = dt.datetime(2026, 10, 23, 22, 0, tzinfo=dt.UTC)
"""Midnight of Saturday, 24 October, in Brussels; the clock goes back in the night after."""
LENGTH = 3 * 86_400
NOW = ORIGIN + dt.timedelta(days=6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is NOW."""
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


def at(seconds: float) -> dt.datetime:
    return ORIGIN + dt.timedelta(seconds=seconds)


def second(instant: dt.datetime) -> int:
    return round((instant - ORIGIN).total_seconds())


@dataclass
class Crowd:
    """Told sessions, in the database and by the second."""

    streams: Sequence[Stream]
    told: list[Told] = field(default_factory=list)

    def hear(self, stream: int, listener: int, *parts: tuple[int, int], **more: Any) -> Session:
        """Somebody listened to a stream, by its place."""
        self.told.append(Told(stream, listener, parts))
        begin, end = parts[0][0], parts[-1][1]
        offsets = [[(a - begin) * 1000, (b - begin) * 1000] for a, b in parts]
        return Session.objects.create(
            stream=self.streams[stream],
            listener=listener,
            started=at(begin),
            ended=at(end),
            played_ms=sum(b - a for a, b in offsets),
            parts=offsets if len(parts) > 1 else None,
            is_long=(end - begin) * 1000 > LONG_SESSION_MS,
            source="ice",
            **more,
        )

    def come(self, seed: int, number: int) -> None:
        """Random sessions, some too short to count, some of several parts, some of half a day and more."""
        chance = random.Random(seed)
        for _ in range(number):
            start, parts = chance.randrange(-7200, LENGTH - 60), []
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                length = chance.choice(
                    (chance.randrange(1, 90), chance.randrange(60, 5000), chance.randrange(60, 5000))
                )
                if chance.random() < 0.08:
                    length = chance.randrange(15_000, 90_000)
                parts.append((start, start + length))
                start += length + chance.randrange(1, 300)
            told = {"bytes_sent": 16_000 * sum(b - a for a, b in parts)} if chance.random() < 0.5 else {}
            self.hear(chance.randrange(len(self.streams)), chance.randrange(25), *parts, **told)

    def seconds(self, *streams: int, **more: Any) -> Seconds:
        """The grid of these streams, of all where none is named."""
        chosen = [one for one in self.told if not streams or one.stream in streams]
        return Seconds(chosen, LENGTH + 200_000, **more)

    def observe(self, start: float = -86_400, end: float = LENGTH + 200_000) -> None:
        for stream in self.streams:
            Coverage.objects.create(stream=stream, started=at(start), ended=at(end))

    def on_air(self, start: float, end: float, layer: str = "diffusion", **more: Any) -> Airing:
        return Airing.objects.create(
            station_id=1, layer=layer, key=f"{layer}{start}", started=at(start), ended=at(end),
            start_basis="observed", end_basis="observed", **more,
        )  # fmt: skip

    def compute(self, *, now: dt.datetime = NOW) -> None:
        window = {"now_ms": to_ms(now), "rule_sets": NAMES}
        quarters.refresh(1, to_ms(at(-7200)), to_ms(at(LENGTH)), **window)
        cumes.refresh(1, to_ms(at(-7200)), to_ms(at(LENGTH)), **window)
        rollup.refresh(1, to_ms(at(-7200)), to_ms(at(LENGTH)), **window)


def prune(settings: Any, *, now: dt.datetime = NOW) -> dt.datetime:
    """Lets every session expire; the instant at which that was."""
    settings.AIRCOX_LISTEN_STATS = {**settings.AIRCOX_LISTEN_STATS, "KEEP_SESSIONS_DAYS": 1}
    later = now + dt.timedelta(days=5)
    retention.prune(now_ms=to_ms(later))
    assert not Session.objects.exists()
    return later


@pytest.fixture(autouse=True)
def station_settings(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"ice": {"backend": "icecast", "url": "http://127.0.0.1:9", "user": "admin", "password": "x"}},
        "STREAMS": {name: {"source": "ice", "station": 1, "mount": f"/{name}"} for name in ("live", "low")},
        "SETTLE_AFTER_HOURS": 1,
    }


@pytest.fixture
def crowd(db: None) -> Crowd:
    made = [Stream.objects.create(slug=slug, station_id=1, source="ice") for slug in ("live", "low")]
    return Crowd(streams=made)


__all__ = ["LENGTH", "NOW", "ORIGIN", "Crowd", "at", "from_ms", "prune", "second"]
