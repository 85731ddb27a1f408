"""A station with one stream, and words to tell a report shortly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aircox_listen_stats.kernel.types import Address, Observation
from aircox_listen_stats.models import Secret, Stream
from aircox_listen_stats.pipeline import households, recognise, secrets
from aircox_listen_stats.sources.base import Census, Heard, Report

T0 = 1_795_341_600_000
"""2026-11-22 10:00 UTC."""
S = 1000
MINUTE = 60 * S
HOUR = 60 * MINUTE

SETTINGS: dict[str, Any] = {
    "SOURCES": {"ice": {"backend": "icecast", "url": "http://127.0.0.1:9", "user": "admin", "password": "x"}},
    "STREAMS": {"live": {"source": "ice", "station": 1, "mount": "/live.mp3"}},
    "SETTLE_AFTER_HOURS": 1,
}


@pytest.fixture(autouse=True)
def station_settings(settings: Any) -> Iterator[None]:
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    secrets.forget()
    recognise.forget()
    households.forget()
    yield
    secrets.forget()
    recognise.forget()
    households.forget()


@pytest.fixture
def stream(db: None) -> Stream:
    return Stream.objects.create(slug="live", station_id=1, source="ice")


@pytest.fixture
def fixed_secrets(db: None) -> None:
    """The same listener keys in every run."""
    from aircox_listen_stats import conf
    from aircox_listen_stats.fields import from_ms
    from aircox_listen_stats.kernel import calendar

    settings = conf.get()
    start = calendar.period_start(T0, settings.key_rotation, settings.zone, settings.broadcast_day_start)
    before = calendar.period_start(start - 1, settings.key_rotation, settings.zone, settings.broadcast_day_start)
    after = calendar.period_start(start + 30 * HOUR, settings.key_rotation, settings.zone, settings.broadcast_day_start)
    for number, instant in enumerate((before, start, after)):
        Secret.objects.update_or_create(started=from_ms(instant), defaults={"value": bytes([number + 1]) * 32})
    secrets.forget()


def at(seconds: float) -> int:
    """Milliseconds of the instant ``seconds`` after ten o'clock."""
    return T0 + round(seconds * S)


def ip(number: int) -> str:
    return f"198.51.100.{number}" if number < 256 else f"198.18.{number // 256}.{number % 256}"


def heard(
    client: int | None,
    started: float,
    seen: float,
    *,
    ended: bool = False,
    who: int | None = None,
    agent: str = "VLC/3.0.20",
    stream: str = "live",
    **more: Any,
) -> Observation:
    """A socket from ``started`` to ``seen`` seconds after ten o'clock."""
    number = who if who is not None else (client or 0)
    return Observation(
        stream=stream,
        started_ms=at(started),
        seen_ms=at(seen),
        ended=ended,
        client=None if client is None else str(client),
        address=Address(ip=ip(number % 60000), agent=agent),
        **more,
    )


def poll(
    seconds: float, *shown: Observation, server: str = "run1", streams: tuple[str, ...] = ("live",), every: float = 15
) -> Report:
    """A census at that second which shows these sockets and no other."""
    return Report(
        source="ice",
        observations=shown,
        census=Census(streams=frozenset(streams), at_ms=at(seconds), server=server),
        heard=[Heard(stream=one, started_ms=at(seconds - every), ended_ms=at(seconds)) for one in streams],
        cursor={"at_ms": at(seconds)},
        counts={"kept": len(shown)},
    )


def told(*observations: Observation, source: str = "ice") -> Report:
    """Callbacks or log lines."""
    return Report(source=source, observations=observations)


def sessions(*names: str) -> list[tuple[Any, ...]]:
    """All sessions, by start: seconds from ten o'clock, and further columns by name."""
    from aircox_listen_stats.fields import to_ms
    from aircox_listen_stats.models import Session

    return sorted(
        (
            (to_ms(one.started) - T0) / S,
            (to_ms(one.ended) - T0) / S,
            one.played_ms / S,
            "open" if one.is_open else "closed",
            *(getattr(one, name) for name in names),
        )
        for one in Session.objects.all()
    )


KILLED_SETTINGS: dict[str, Any] = {**SETTINGS, "STREAMS": {"live": {"source": "ice", "mount": "/live.mp3"}}}
"""Of the collector that is killed: its station is whichever the playout log calls the default."""
