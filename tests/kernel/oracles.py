"""Cases with known answers, shared by the tests of the kernel."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable

from hypothesis import HealthCheck, settings

from aircox_listen_stats.kernel.correlate import Listening

S = 1000
"""Milliseconds in a second."""

HOUR_MS = 3_600_000

random_cases = functools.partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Hypothesis settings that no busy machine turns into a failure."""


def utc(text: str) -> int:
    """The milliseconds of an ISO instant in UTC."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * S


def clock(text: str) -> int:
    """The milliseconds of ``HH:MM[:SS]`` on an ordinary Monday in UTC."""
    return utc(f"2026-11-23T{text}")


ONE_HOUR = [
    # listener, from, to: each line is a session of its own (the gap rule is off)
    ("A", "09:50", "10:20"),
    ("B", "10:00", "10:04:59"),
    ("C", "10:10", "10:16"),
    ("C", "10:40", "10:40:45"),
    ("D", "10:30", "11:30"),
    ("E", "10:14", "10:19"),
    ("E", "10:25", "10:30"),
    ("F", "10:45", "10:48"),
    ("F", "10:50", "10:53"),
]
"""Oracle 1: the sessions of one hour, 10:00 to 11:00."""


def listening_of(sessions: Iterable[tuple[str, str, str]]) -> Listening:
    return Listening.of_parts([(ord(who), [(clock(start), clock(end))], False) for who, start, end in sessions])
