"""Sessions of a window are found by the indexes that there are, whatever the table holds besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import LONG_SESSION_MS, Session, Stream
from aircox_listen_stats.reports import sessions

from .conftest import T0
from .test_rollup import session

pytestmark = pytest.mark.django_db

HOUR = 3600


@contextmanager
def planned_as_if_full() -> Iterator[None]:
    """PostgreSQL reads a table of ten rows whole, whatever indexes it has."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    yield


def plan(asking: Callable[[], object]) -> str:
    """How the database goes about the one query."""
    with CaptureQueriesContext(connection) as asked:
        asking()
    (query,) = asked.captured_queries
    words = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with planned_as_if_full(), connection.cursor() as cursor:
        cursor.execute(f"{words} {query['sql']}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


@pytest.mark.parametrize("kind", ["touching", "begun", "each_ended"])
def test_a_window_is_found_by_index(stream: Stream, kind: str) -> None:
    asking = {
        "touching": lambda: list(Session.objects.on([stream.pk]).touching(T0, T0 + 1000)),
        "begun": lambda: sessions.begun([stream.pk], T0, T0 + 1000),
        "each_ended": lambda: list(sessions.each_ended([stream.pk], T0, T0 + 1000)),
    }[kind]
    told = plan(asking)
    scans = [line for line in told.splitlines() if "Seq Scan" in line or line.startswith("SCAN")]
    assert not [line for line in scans if "session" in line], told
    assert "listen_session_end" in told
    assert "listen_session_long" in told


def test_every_length_of_session_is_found_at_either_edge_of_the_window(stream: Stream) -> None:
    """Just below, at and above the length from which on they are looked for elsewhere; open ones too."""
    longest = LONG_SESSION_MS // 1000
    wanted, begun = [], []
    for lasts in (1, HOUR, longest - 1, longest, longest + 1, 3 * longest):
        for start in (-lasts, 1 - lasts, -1, 0, 1, HOUR - 1, HOUR):
            for is_open in (False, True):
                made = session(stream, start, start + lasts, is_open=is_open)
                if start < HOUR and start + lasts > 0:
                    wanted.append(made.pk)
                if 0 <= start < HOUR:
                    begun.append((to_ms(made.started), to_ms(made.ended)))
    found = Session.objects.on([stream.pk]).touching(T0, T0 + HOUR * 1000)
    assert sorted(found.values_list("pk", flat=True)) == sorted(wanted)
    told = sessions.begun([stream.pk], T0, T0 + HOUR * 1000)
    assert sorted((one.started_ms, one.ended_ms) for one in told) == sorted(begun)
