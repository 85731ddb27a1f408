"""The broadcast comes first: whatever breaks on our side, the Monitor ticks on and writes the same rows."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.test import override_settings

from aircox_listen_stats.models import OnAirChange, StaleWindow
from aircox_listen_stats.onair import monitor as hook
from aircox_listen_stats.onair import recorder as recorder_module
from aircox_listen_stats.onair.recorder import QUEUE_LENGTH, Recorder
from tests.onair.studio import Mixer, Studio, make_monitor, monitor_home

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TICKS = 12
PATIENCE_SECONDS = 60
BUDGET_SECONDS = 0.001
"""What the hook may add to a tick, docs/onair.md: a thousandth of the tick's own second."""
MEASURED_TICKS = 2_000
CLOSED_PORT_REDIS = "redis://127.0.0.1:9/0"


@pytest.fixture
def recorder(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    fresh = Recorder()
    monkeypatch.setattr(hook, "recorder", fresh)
    monkeypatch.setattr(recorder_module, "RETRY_SECONDS", 0.05)
    yield fresh
    fresh.stop(PATIENCE_SECONDS)


@pytest.fixture
def hooked(recorder: Recorder) -> Iterator[None]:
    monitor_home()
    assert hook.install()
    yield
    hook.uninstall()


class Station:
    """A studio whose Monitor plays a fixed hour: two songs, an unknown file, a show."""

    def __init__(self, name: str) -> None:
        self.studio = Studio(name)
        self.mixer = Mixer(self.studio.station)
        self.songs = [self.studio.sound(f"{name} {number}.mp3") for number in range(2)]
        self.studio.track(self.songs[0], "Piece", 0)
        self.monitor = make_monitor(self.mixer)

    def tick(self, number: int) -> None:
        names = [self.songs[0].name, self.songs[1].name, "unknown.mp3"]
        air_time = NOON + timedelta(seconds=number // 2)
        self.mixer.air(self.mixer.playlist, self.studio.path(names[number // 2 % 3]), air_time)
        self.monitor.monitor()

    def written(self) -> list[tuple]:
        return [(row.type, row.date, row.source, row.track and row.track.title) for row in self.studio.rows()]


@pytest.fixture
def unhooked_rows(transactional_db: None) -> list[tuple]:
    """What the Monitor writes by itself in those ticks."""
    station = Station("Radio Alone")
    for number in range(TICKS):
        station.tick(number)
    return station.written()


def test_the_rows_are_the_same_with_and_without_the_hook(
    unhooked_rows: list[tuple], hooked: None, recorder: Recorder
) -> None:
    station = Station("Radio Hooked")
    for number in range(TICKS):
        station.tick(number)
    assert station.written() == unhooked_rows
    assert len(unhooked_rows) >= 3, "the ticks make the Monitor write"
    assert recorder.counts.taken >= TICKS


def boom(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("broken on purpose")


class Unreadable:
    """A streamer's source of which every attribute breaks."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("broken on purpose")


@pytest.mark.parametrize(
    "place",
    ["_tick", "recorder.take", "recorder._start", "recorder._work", "recorder._write", "recorder.wake.set"],
)
def test_whatever_of_ours_raises_the_monitor_ticks_on(
    place: str, unhooked_rows: list[tuple], hooked: None, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, _, name = place.rpartition(".")
    target = hook
    for part in filter(None, owner.split(".")):
        target = getattr(target, part)
    station = Station("Radio Hooked")
    with monkeypatch.context() as broken:
        broken.setattr(target, name, boom)
        for number in range(TICKS):
            station.tick(number)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (recorder.counts.failed or recorder.counts.refused or recorder.counts.lost):
            assert time.monotonic() < deadline, f"the fault in {place} left no trace: {recorder.counts}"
            time.sleep(0.01)
    assert station.written() == unhooked_rows


def test_a_source_that_cannot_be_read_is_counted_and_no_more(hooked: None, recorder: Recorder) -> None:
    station = Station("Radio Hooked")
    station.mixer.source = Unreadable()  # type: ignore[assignment]
    for _ in range(2):
        station.mixer.fetch()
        hook.observe(station.monitor)
    assert recorder.counts.failed == 2


def test_the_monitors_own_exception_passes_unchanged(hooked: None, recorder: Recorder) -> None:
    """A Monitor that fails ends its process, and Liquidsoap with it: that is aircox's to decide."""
    station = Station("Radio Hooked")
    before = recorder.counts.taken
    error = ConnectionError("of aircox")

    def fail() -> None:
        raise error

    station.mixer.fetch = fail  # type: ignore[method-assign]
    with pytest.raises(ConnectionError) as raised:
        station.monitor.monitor()
    assert raised.value is error
    assert recorder.counts.taken == before


@pytest.mark.parametrize("exit", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_is_not_swallowed(
    exit: type, hooked: None, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*args: Any) -> None:
        raise exit

    monkeypatch.setattr(hook, "_tick", leave)
    with pytest.raises(exit):
        Station("Radio Hooked").monitor.monitor()


def test_a_slow_write_holds_up_no_tick(
    unhooked_rows: list[tuple], hooked: None, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ticks return while the first write still hangs."""
    reached, release = threading.Event(), threading.Event()
    write = recorder._write

    def slow(row: Any) -> None:
        reached.set()
        assert release.wait(PATIENCE_SECONDS)
        write(row)

    monkeypatch.setattr(recorder, "_write", slow)
    station = Station("Radio Hooked")
    station.tick(0)
    assert reached.wait(PATIENCE_SECONDS)
    for number in range(1, TICKS):
        station.tick(number)
    assert not release.is_set()
    assert recorder.counts.written == 0
    assert station.written() == unhooked_rows
    release.set()
    assert recorder.drain(PATIENCE_SECONDS)
    assert recorder.counts.written > 0


@contextmanager
def locked_database() -> Iterator[None]:
    """Another connection holds what our writes need: SQLite's one write lock, PostgreSQL's lock of our tables."""
    if connection.vendor == "sqlite":
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()
        return
    other = connections.create_connection("default")
    tables = ", ".join(model._meta.db_table for model in (OnAirChange, recorder_module.MonitorWatch, StaleWindow))
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            yield
            cursor.execute("ROLLBACK")
    finally:
        other.close()


def test_a_locked_database_holds_up_no_tick_and_loses_nothing(
    hooked: None, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The ticks write nothing themselves here: on SQLite aircox's own rows would wait for the same lock."""
    monkeypatch.setattr(recorder_module, "LOCK_TIMEOUT_MS", 100)
    station = Station("Radio Hooked")
    hook.uninstall()
    station.tick(0)  # its row is there, and the next ticks find it
    assert recorder.drain(PATIENCE_SECONDS)
    hook.install()
    recorder.stop(PATIENCE_SECONDS)
    caplog.set_level(logging.WARNING, logger="aircox_listen_stats")
    rows = station.written()
    ticked = 0
    with locked_database():
        while not recorder.counts.refused:
            station.monitor.monitor()
            ticked += 1
            assert ticked < QUEUE_LENGTH, "no write was refused by the locked database"
            time.sleep(0.01)
        for _ in range(TICKS):
            station.monitor.monitor()
        assert recorder.counts.written == 0
        seen_first = recorder.air[station.studio.station.pk].change
    assert station.written() == rows
    assert recorder.drain(PATIENCE_SECONDS)
    change = OnAirChange.objects.get(station_id=station.studio.station.pk)
    assert change.started == seen_first.started
    complaints = [record for record in caplog.records if record.name.startswith("aircox_listen_stats")]
    assert len(complaints) == 1, "at most one line a minute"
    assert complaints[0].getMessage().endswith(": OperationalError.")


def test_a_note_that_meets_a_locked_database_is_kept(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "LOCK_TIMEOUT_MS", 100)
    studio = Studio()
    row = studio.diffusion(studio.episode("Talk"), NOON)
    assert recorder.drain(PATIENCE_SECONDS)
    StaleWindow.objects.all().delete()
    with locked_database():
        hook.note_diffusion(row)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not recorder.counts.refused and time.monotonic() < deadline:
            time.sleep(0.01)
        assert recorder.counts.refused
    assert recorder.drain(PATIENCE_SECONDS)
    assert StaleWindow.objects.filter(kind=StaleWindow.TIMELINE).count() == 1


def test_a_database_that_is_away_for_long_costs_bounded_memory(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "PENDING_ROWS", 10)

    def away(connection: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(recorder_module, "_prepare", away)
    for number in range(50):
        recorder.take(recorder_module.Tick(number * 1000, 1, "night", f"/file {number}", NOON, 10.0))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (recorder.queue or not recorder.counts.lost) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert recorder.counts.lost > 0
    assert len(recorder.pending.rows) <= 10


def test_a_row_that_no_database_takes_does_not_hold_up_the_others(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = recorder._write

    def picky(row: Any) -> None:
        if isinstance(row, OnAirChange) and row.source == "bad":
            raise ValueError("not a row")
        write(row)

    monkeypatch.setattr(recorder, "_write", picky)
    for number, source in enumerate(("good", "bad", "fine")):
        recorder.take(recorder_module.Tick(number * 1000, 1, source, f"/file {number}", NOON, 10.0))
    assert recorder.drain(PATIENCE_SECONDS)
    assert [row.source for row in OnAirChange.objects.order_by("started")] == ["good", "fine"]
    assert recorder.counts.lost >= 1


def test_a_dead_redis_holds_up_no_tick(unhooked_rows: list[tuple], hooked: None, recorder: Recorder) -> None:
    """Nothing of ours in the Monitor's process speaks to the channel layer, so a dead one goes unnoticed."""
    dead = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [CLOSED_PORT_REDIS]},
        }
    }
    with override_settings(CHANNEL_LAYERS=dead):
        station = Station("Radio Hooked")
        for number in range(TICKS):
            station.tick(number)
        assert station.written() == unhooked_rows
        assert recorder.drain(PATIENCE_SECONDS)
    assert OnAirChange.objects.filter(station_id=station.studio.station.pk).exists()
    assert (recorder.counts.failed, recorder.counts.refused) == (0, 0)


@pytest.mark.parametrize("broken", ["note_log", "note_diffusion"])
def test_a_broken_receiver_breaks_no_save(broken: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Django raises a receiver's exception into save(), which runs in the playout loop."""
    monkeypatch.setattr(recorder, "take", boom)
    station = Station("Radio Hooked")
    station.tick(0)
    station.studio.diffusion(station.studio.episode("Talk"), NOON).delete()
    assert station.written()
    assert recorder.counts.failed > 0


def test_the_hook_asks_the_database_nothing_in_the_tick(hooked: None, recorder: Recorder) -> None:
    """Counted on the Monitor's own connection, with and without the hook."""
    station = Station("Radio Hooked")
    station.tick(0)

    def queries() -> int:
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as asked:
            station.monitor.monitor()
        return len(asked)

    queries()
    with_hook = queries()
    hook.uninstall()
    without = queries()
    hook.install()
    assert with_hook == without
