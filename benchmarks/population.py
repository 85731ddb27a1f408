"""A station's database as it stands after years: a million sessions, a program every hour.

Made by arithmetic from a seed, so that every run measures the same rows. Days
have their morning and evening peaks; most listeners stay for minutes, some
for hours, a few for days; one session in twelve was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.models import LONG_SESSION_MS, Airing, Coverage, Session, SourceState, Stream
from aircox_listen_stats.pipeline.bulk import COLUMNS
from benchmarks._hours import BY_HOUR

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
STATION_ID = 1
PER_DAY = 50_000
SESSIONS = 1_000_000
END_MS = 1_795_305_600_000
"""2026-11-22 00:00 UTC: the populated days end here."""

BATCH = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What was made."""

    station_id: int
    started_ms: int
    ended_ms: int
    sessions: int
    days: int


def populate(
    *, sessions: int = SESSIONS, per_day: int = PER_DAY, end_ms: int = END_MS, seed: int = 20261122
) -> Population:
    """Fills empty, migrated tables: streams, coverage, sessions, and a diffusion for every hour.

    Nobody is open; ``program_id`` is 1 + the hour of the day (UTC). Audiences
    are not made: ``rollup.refresh`` makes them.
    """
    days = max(1, round(sessions / per_day))
    start_ms = end_ms - days * DAY_MS
    live = Stream.objects.create(slug="live", title="Live", station_id=STATION_ID, source="ice")
    low = Stream.objects.create(slug="low", title="Low", station_id=STATION_ID, source="ice")
    for stream in (live, low):
        Coverage.objects.create(stream=stream, started=from_ms(start_ms), ended=from_ms(end_ms))
    SourceState.objects.create(source="ice", heard=from_ms(end_ms))
    dice = np.random.default_rng(seed)
    for day in range(days):
        _load(_day(dice, start_ms + day * DAY_MS, per_day, (live.pk, low.pk), end_ms))
    Airing.objects.bulk_create(_diffusions(start_ms, end_ms), batch_size=500)
    _analyse()
    return Population(station_id=STATION_ID, started_ms=start_ms, ended_ms=end_ms, sessions=days * per_day, days=days)


class LiveDay:
    """A day after the populated ones that goes by: at each instant the table is as it was then."""

    def __init__(self, made: Population, *, per_day: int = PER_DAY, seed: int = 7) -> None:
        streams = tuple(Stream.objects.filter(slug__in=("live", "low")).order_by("slug").values_list("pk", flat=True))
        dice = np.random.default_rng(seed)
        rows = _day(dice, made.ended_ms, per_day, (streams[0], streams[1]), made.ended_ms + 10 * DAY_MS)
        self._rows = sorted(rows, key=lambda row: row[3])
        self._ended = 0
        self.started_ms = made.ended_ms
        Airing.objects.bulk_create(_diffusions(made.ended_ms, made.ended_ms + DAY_MS), batch_size=500)

    def advance(self, now_ms: int) -> None:
        """Stores the sessions that have ended since, and as open those that are there at ``now_ms``."""
        Session.objects.open().delete()
        first = self._ended
        while self._ended < len(self._rows) and self._rows[self._ended][3] <= now_ms:
            self._ended += 1
        there = (_open_at(row, now_ms) for row in self._rows[self._ended :] if row[2] < now_ms)
        _load(iter([*self._rows[first : self._ended], *there]))
        Coverage.objects.update(ended=from_ms(now_ms))


def _open_at(row: tuple[Any, ...], now_ms: int) -> tuple[Any, ...]:
    stream, listener, started, *_, country, app, exclusion, rule, source = row
    lasts = now_ms - started
    is_long = lasts > LONG_SESSION_MS
    return (stream, listener, started, now_ms, lasts, None, True, is_long, country, app, exclusion, rule, source)


def _day(
    dice: np.random.Generator, day_ms: int, count: int, streams: tuple[int, int], end_ms: int
) -> Iterator[tuple[Any, ...]]:
    hours = dice.choice(24, size=count, p=BY_HOUR / BY_HOUR.sum())
    started = day_ms + hours * HOUR_MS + dice.integers(0, HOUR_MS, count)
    lasts = np.exp(dice.normal(np.log(600_000), 1.5, count)).astype(np.int64) + 1000
    lasts = np.where(dice.random(count) < 0.0005, dice.integers(DAY_MS // 2, 2 * DAY_MS, count), lasts)
    ended = np.minimum(started + lasts, end_ms)
    started = np.minimum(started, ended - 1000)
    listener = dice.integers(1, 1 << 62, count // 3)[dice.integers(0, count // 3, count)]
    stream = np.where(dice.random(count) < 0.7, streams[0], streams[1])
    pause = np.where(dice.random(count) < 1 / 12, np.minimum((ended - started) // 4, 250_000), 0)
    country = np.array(["BE", "FR", "NL", "DE", ""])[dice.choice(5, size=count, p=[0.7, 0.12, 0.08, 0.05, 0.05])]
    app = np.array(["VLC", "Chrome", "Sonos", "FFmpeg", ""])[dice.integers(0, 5, count)]
    bot = dice.random(count) < 0.02
    for row in zip(
        stream.tolist(), listener.tolist(), started.tolist(), ended.tolist(), pause.tolist(),
        country.tolist(), app.tolist(), bot.tolist(), strict=True,
    ):  # fmt: skip
        yield _row(*row)


def _row(
    stream: int, listener: int, started: int, ended: int, pause: int, country: str, app: str, is_bot: bool
) -> tuple[Any, ...]:
    elapsed = ended - started
    silent_from = elapsed // 2
    parts = json.dumps([[0, silent_from], [silent_from + pause, elapsed]]) if pause else None
    return (
        stream, listener, started, ended, elapsed - pause, parts, False, elapsed > LONG_SESSION_MS,
        country, app, "bot" if is_bot else "", "crawlerdetect" if is_bot else "", "ice",
    )  # fmt: skip


def _load(some: Iterator[tuple[Any, ...]]) -> None:
    name = Session._meta.db_table
    columns = ", ".join(COLUMNS)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {name} ({columns}) FROM STDIN") as copy:
                for row in some:
                    copy.write_row(row)
        else:
            cursor.execute("BEGIN")
            marks = ", ".join(["%s"] * len(COLUMNS))
            cursor.executemany(f"INSERT INTO {name} ({columns}) VALUES ({marks})", list(some))
            cursor.execute("COMMIT")


def _diffusions(start_ms: int, end_ms: int) -> list[Airing]:
    return [
        Airing(
            station_id=STATION_ID,
            layer="diffusion",
            key=f"diffusion:{instant // HOUR_MS}",
            started=from_ms(instant),
            ended=from_ms(instant + HOUR_MS),
            start_basis="logged",
            end_basis="scheduled",
            title=f"Episode {number}",
            program_id=1 + instant // HOUR_MS % 24,
            program_title=f"Program of {instant // HOUR_MS % 24:02d}:00",
            episode_id=number,
            diffusion_id=number,
            scheduled_start=from_ms(instant),
            scheduled_end=from_ms(instant + HOUR_MS),
        )
        for number, instant in enumerate(range(start_ms, end_ms, HOUR_MS), start=1)
    ]


def _analyse() -> None:
    """Statistics for the planner, as autovacuum and SQLite's own optimizer keep them at a station."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
