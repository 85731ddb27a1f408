"""openbroadcast's session report, written out as SQL with window functions for a real PostgreSQL, beside ours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
import pytest

from aircox_listen_stats import conf
from aircox_listen_stats.kernel.metrics import counted
from aircox_listen_stats.kernel.player import Listening, visit_sessions
from aircox_listen_stats.kernel.sessionize import stitch_columns
from tests.parts import postgres

from .oracles import S, utc

RULES = conf.RULE_SETS["openbroadcast"]
BASE = utc("2026-11-23T04:00")
ONE_DEVICE_MS = 10**12
"""As ``twin_ms``: whatever overlaps is the same device."""

TABLE = """
    CREATE TEMPORARY TABLE player_event (
        user_identity integer NOT NULL, device_key integer NOT NULL, state text NOT NULL, source text NOT NULL,
        time timestamptz NOT NULL, time_end timestamptz
    )
"""

SESSIONS = """
    WITH playing AS (
        SELECT *, LAG(time_end) OVER (PARTITION BY user_identity, device_key ORDER BY time) AS previous_end
        FROM player_event
        WHERE state = 'playing'
    ), marked AS (
        SELECT *, CASE WHEN EXTRACT(EPOCH FROM time - previous_end) > 300 THEN 1 ELSE 0 END AS is_gap FROM playing
    ), numbered AS (
        SELECT *, SUM(is_gap) OVER (PARTITION BY user_identity, device_key ORDER BY time) AS session,
               EXTRACT(EPOCH FROM time_end - time) AS played
        FROM marked
    )
    SELECT user_identity,
           device_key,
           MIN(time) AS started,
           EXTRACT(EPOCH FROM MAX(time_end) - MIN(time)) AS duration_s,
           SUM(played) AS duration_playing_s,
           COALESCE(SUM(played) FILTER (WHERE source = 'live'), 0) AS live_s,
           COALESCE(SUM(played) FILTER (WHERE source = 'on-demand'), 0) AS on_demand_s
    FROM numbered
    GROUP BY user_identity, device_key, session
    HAVING SUM(played) > 30
    ORDER BY started, user_identity, device_key
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    user: int
    device: int
    started_ms: int
    ended_ms: int
    is_live: bool = True
    state: str = "playing"


@pytest.fixture
def connection(postgres_server: postgres.Server) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_server.dsn, autocommit=True) as opened:
        opened.execute("SET TIME ZONE 'UTC'")
        opened.execute(TABLE)
        yield opened


def by_their_sql(connection: psycopg.Connection, events: Sequence[Event]) -> list[tuple[int, ...]]:
    """(user, device, start, elapsed, played, live, on demand) of each session, times in milliseconds."""
    connection.execute("TRUNCATE player_event")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO player_event VALUES (%s, %s, %s, %s, to_timestamp(%s::numeric / 1000),"
            " to_timestamp(%s::numeric / 1000))",
            [
                (one.user, one.device, one.state, "live" if one.is_live else "on-demand", one.started_ms, one.ended_ms)
                for one in events
            ],
        )
    rows = connection.execute(SESSIONS).fetchall()
    return [
        (user, device, round(started.timestamp() * S), *(round(seconds * S) for seconds in durations))
        for user, device, started, *durations in rows
    ]


def by_ours(events: Sequence[Event]) -> list[tuple[int, ...]]:
    """The same by the kernel."""
    playing = [
        Listening(
            listener=one.user,
            device=one.device,
            started_ms=one.started_ms,
            ended_ms=one.ended_ms,
            is_live=one.is_live,
        )
        for one in events
        if one.state == "playing"
    ]
    sessions = visit_sessions(playing, gap_ms=RULES.gap_seconds * S)
    counts = counted(np.array([one.played_ms for one in sessions], dtype=np.int64), RULES)
    return [
        (one.listener, one.device, one.started_ms, one.elapsed_ms, one.played_ms, one.live_ms, one.on_demand_ms)
        for one in itertools.compress(sessions, counts.tolist())
    ]


def by_the_stitching_of_connections(events: Sequence[Event], devices: int) -> list[tuple[int, ...]]:
    """(user, device, start, elapsed, played) by the columns that bulk imports are stitched with."""
    playing = [one for one in events if one.state == "playing"]
    sessions = stitch_columns(
        np.array([one.user * devices + one.device for one in playing]),
        np.array([one.started_ms for one in playing]),
        np.array([one.ended_ms for one in playing]),
        gap_ms=RULES.gap_seconds * S,
        twin_ms=ONE_DEVICE_MS,
    )
    who, elapsed = sessions.listener, sessions.ended_ms - sessions.started_ms
    columns = (who // devices, who % devices, sessions.started_ms, elapsed, sessions.played_ms)
    return list(zip(*(column[counted(sessions.played_ms, RULES)].tolist() for column in columns), strict=True))


def random_events(seed: int, *, users: int, devices: int) -> list[Event]:
    """Of each device one after the other, in any order of rows; gaps and lengths lie close to what decides."""
    dice = np.random.default_rng(seed)
    gaps = np.array([0, 1, 1000, 299_999, 300_000, 300_001, 301_000, 4_000_000])
    lengths = np.array([1, 9_999, 10_000, 15_000, 15_001, 29_999, 30_000, 30_001, 31_000, 600_000])
    events = []
    for user, device in itertools.product(range(users), range(devices)):
        at = BASE + int(dice.integers(0, 3600)) * S
        for _ in range(int(dice.integers(1, 9))):
            ended = at + int(dice.choice(lengths))
            state = "playing" if dice.random() < 0.85 else str(dice.choice(["paused", "stopped", "buffering"]))
            live = bool(dice.random() < 0.6)
            events.append(Event(user=user, device=device, started_ms=at, ended_ms=ended, is_live=live, state=state))
            at = ended + int(dice.choice(gaps))
    return [events[place] for place in dice.permutation(len(events))]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_events_that_neither_overlap_nor_lack_an_end_give_the_same_rows(connection, seed):
    events = random_events(seed, users=300, devices=2)
    theirs = by_their_sql(connection, events)
    assert len(theirs) > 300
    assert by_ours(events) == theirs
    assert by_the_stitching_of_connections(events, devices=2) == [row[:5] for row in theirs]


def seconds(rows: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
    """(start, elapsed, played, live, on demand) in seconds."""
    return [((start - BASE) / S, *(one / S for one in durations)) for _, _, start, *durations in rows]


def of_one_device(*times: tuple[int, int]) -> list[Event]:
    return [Event(user=1, device=1, started_ms=BASE + a * S, ended_ms=BASE + b * S) for a, b in times]


ORACLE_2 = {
    "gap 300": ([(0, 200), (500, 600)], [(0, 600, 300)]),
    "gap 301, played 30": ([(0, 200), (500, 600), (901, 931)], [(0, 600, 300)]),
    "and played 31": ([(0, 200), (500, 600), (901, 931), (1300, 1331)], [(0, 600, 300), (1300, 31, 31)]),
}


@pytest.mark.parametrize(("times", "expected"), ORACLE_2.values(), ids=ORACLE_2)
def test_oracle_2_holds_for_both(connection, times, expected):
    events = of_one_device(*times)
    expected = [(*row, row[-1], 0) for row in expected]
    assert seconds(by_their_sql(connection, events)) == seconds(by_ours(events)) == expected


def test_oracle_2_live_and_on_demand_for_both(connection):
    live, later = of_one_device((0, 120), (300, 420))
    events = [live, Event(user=1, device=1, started_ms=later.started_ms, ended_ms=later.ended_ms, is_live=False)]
    assert seconds(by_their_sql(connection, events)) == seconds(by_ours(events)) == [(0, 420, 240, 120, 120)]


def test_oracle_2_two_devices_for_both(connection):
    one, other = of_one_device((0, 100), (150, 250))
    events = [one, Event(user=1, device=2, started_ms=other.started_ms, ended_ms=other.ended_ms)]
    expected = [(0, 100, 100, 100, 0), (150, 100, 100, 100, 0)]
    assert seconds(by_their_sql(connection, events)) == seconds(by_ours(events)) == expected


def test_oracle_2_where_theirs_measures_from_the_previous_row_and_ours_from_the_latest_end(connection):
    """Long listening that covers short events is torn apart there, and more was played than time went by."""
    events = of_one_device((0, 1000), (100, 200), (600, 700))
    assert seconds(by_their_sql(connection, events)) == [(0, 1000, 1100, 1100, 0), (600, 100, 100, 100, 0)]
    assert seconds(by_ours(events)) == [(0, 1000, 1000, 1000, 0)]
