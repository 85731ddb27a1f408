"""Callbacks between answer and Inbox: on disk before the answer, in memory where the disk fails, each one once."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import override_settings

from aircox_listen_stats.kernel.types import Address
from aircox_listen_stats.models import Inbox, Secret
from aircox_listen_stats.pipeline import journal, recognise, secrets
from aircox_listen_stats.sources import urlauth
from aircox_listen_stats.web import buffer as buffers
from aircox_listen_stats.web.buffer import Arrived, Buffer

NOW_MS = 1_795_312_800_750
DAY_MS = 24 * 3600 * 1000
ADDRESS = "198.51.100.77"
AGENT = "VLC/3.0.20 secret-agent"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    given = {"JOURNAL_FOLDER": tmp_path / "journals", "CALLBACK_TOKENS": {"icecast": "x"}}
    with override_settings(AIRCOX_LISTEN_STATS=given):
        yield tmp_path / "journals"


@pytest.fixture
def quiet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buffer]:
    """A buffer whose threads do not run."""
    secrets.forget()
    made = Buffer(limit=1000, patience_seconds=0)
    monkeypatch.setattr(made, "_see_to_threads", lambda: None)
    yield made
    made.journal.let_go()


@pytest.fixture
def running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buffer]:
    """A buffer that works by itself, and hurries."""
    secrets.forget()
    for name, seconds in {"FLUSH_SECONDS": 0.01, "RETRY_SECONDS": 0.05, "QUIET_SECONDS": 0.05}.items():
        monkeypatch.setattr(buffers, name, seconds)
    made = Buffer(patience_seconds=60)
    for work in ("_journal_on", "_write_on"):
        monkeypatch.setattr(made, work, partial(until_its_last_turn, getattr(made, work)))
    yield made
    until(lambda: not len(made))
    end_threads(made, monkeypatch)
    made.journal.let_go()


class LastTurn(BaseException):
    """No error that a thread of the buffer would go on after."""


def until_its_last_turn(work: Callable[[], None]) -> None:
    with suppress(LastTurn):
        work()


def end_threads(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets none of them look into a later test's database and journals, as in a living process they would."""

    def leave() -> None:
        connection.close()
        raise LastTurn

    for work in ("_journal_arrived", "flush"):
        monkeypatch.setattr(buffer, work, leave)

    def are_over() -> bool:
        for wake in (buffer._has_arrived, buffer._has_more, buffer._wants_secret):
            wake.set()
        return not any(thread.is_alive() for thread in buffer._threads.values())

    until(are_over)


def arrived(number: int, received_ms: int = NOW_MS) -> Arrived:
    event = urlauth.AuthEvent(
        action="listener_add", mount="/live.mp3", client=str(number), address=Address(ip=ADDRESS, agent=AGENT)
    )
    return Arrived(source="icecast", stream="live", received_ms=received_ms, event=event)


def until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def clients() -> list[str]:
    return [one.payload["client"] for one in Inbox.objects.order_by("pk")]


def numbers(*counts: int) -> list[str]:
    return [str(number) for number in range(*counts)]


def on_disk(folder: Path) -> list[list[Any]]:
    """Every record of every journal."""
    return [
        json.loads(line[9:]) for path in sorted(folder.glob("*.journal")) for line in path.read_bytes().splitlines()
    ]


@contextmanager
def full_disk(more: int) -> Iterator[None]:
    """No file may grow by more than ``more`` bytes from nothing: the kernel writes a part, then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.django_db
def test_what_was_answered_is_on_disk_and_holds_no_address(quiet: Buffer, folder: Path) -> None:
    secrets.current(NOW_MS)
    for number in range(3):
        quiet.keep(arrived(number))
    quiet._journal_arrived()
    assert [(source, at, kept["client"]) for source, at, kept in on_disk(folder)] == [
        ("icecast", NOW_MS, number) for number in numbers(3)
    ]
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    for word in (ADDRESS, AGENT, "secret-agent", "198.51"):
        assert word.encode() not in written
    assert (folder.stat().st_mode & 0o777, next(folder.iterdir()).stat().st_mode & 0o777) == (0o700, 0o600)
    assert quiet.flush() == 3
    assert clients() == numbers(3)


@pytest.mark.django_db(transaction=True)
def test_an_answer_waits_for_the_journal_and_the_inbox_follows_by_itself(running: Buffer, folder: Path) -> None:
    assert all(running.keep(arrived(number)) for number in range(5))
    until(lambda: clients() == numbers(5))


@pytest.mark.django_db(transaction=True)
def test_the_inboxs_thread_looks_whether_listeners_share_an_address(
    running: Buffer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(buffers.blurs, "look_in_time", lambda *, now_ms: looked.append(now_ms))
    running.keep(arrived(1))
    until(lambda: looked)


@pytest.mark.django_db(transaction=True)
async def test_an_event_loop_waits_without_standing_still(running: Buffer, folder: Path) -> None:
    assert all(await asyncio.gather(*(running.keep_waiting(arrived(number)) for number in range(50))))
    kept = len(on_disk(folder)) + await asyncio.to_thread(_count)
    assert kept >= 50


def _count() -> int:
    try:
        return Inbox.objects.count()
    finally:
        connection.close()


@pytest.mark.django_db
def test_without_a_secret_nothing_reaches_the_disk_and_nothing_is_lost(
    quiet: Buffer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away when a period begins: a key cannot be made, and an address must not be written."""
    with monkeypatch.context() as broken:
        broken.setattr(secrets, "current", _raise(DatabaseError("away")))
        for number in range(3):
            quiet.keep(arrived(number))
        with pytest.raises(DatabaseError):
            quiet.flush()
        assert (len(quiet), on_disk(folder) if folder.exists() else []) == (3, [])
    assert quiet.flush() == 3
    assert clients() == numbers(3)


@pytest.mark.django_db
def test_each_callback_is_keyed_under_the_secret_of_its_own_period(quiet: Buffer, folder: Path) -> None:
    quiet.keep(arrived(0, NOW_MS))
    quiet.keep(arrived(1, NOW_MS + DAY_MS))
    quiet.keep(arrived(2, NOW_MS + DAY_MS))
    assert quiet.flush() == 3
    marks = [one.payload["mark"] for one in Inbox.objects.order_by("pk")]
    assert marks[0]["listener"] != marks[1]["listener"] == marks[2]["listener"]
    assert marks[1]["previous"] == marks[0]["listener"]
    assert Secret.objects.count() == 2


def _raise(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


@pytest.mark.django_db
def test_what_the_database_refuses_waits_in_the_journal_in_order(
    quiet: Buffer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets.current(NOW_MS)
    with monkeypatch.context() as broken:
        broken.setattr(journal, "_insert", _raise(DatabaseError("locked")))
        for number in range(3):
            quiet.keep(arrived(number))
            with pytest.raises(DatabaseError):
                quiet.flush()
    assert (len(quiet), clients(), len(on_disk(folder))) == (0, [], 3)
    assert quiet.flush() == 3
    assert clients() == numbers(3)
    assert quiet.flush() == 0


@pytest.mark.django_db
def test_a_callback_that_cannot_be_recognised_holds_up_no_other(
    quiet: Buffer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secrets.current(NOW_MS)
    made = recognise.mark
    broken = [ValueError(ADDRESS)]
    monkeypatch.setattr(recognise, "mark", lambda *told: _raise(broken.pop())() if broken else made(*told))
    for number in range(3):
        quiet.keep(arrived(number))
    assert quiet.flush() == 2
    assert clients() == numbers(1, 3)
    assert ADDRESS not in caplog.text


@pytest.mark.django_db
def test_a_record_that_the_database_refuses_holds_up_no_other(quiet: Buffer, folder: Path) -> None:
    """An integer beyond the column in the midst of a batch."""
    texts = [journal.record("icecast", NOW_MS, {"client": str(number)}) for number in range(5)]
    texts[2] = journal.record("x" * 10, 1, {}).replace(b",1,", b",null,")
    assert quiet.journal.write(texts) == 5
    quiet.flush()
    assert clients() == ["0", "1", "3", "4"]
    assert quiet.flush() == 0


@pytest.mark.django_db
def test_a_full_disk_costs_no_callback_and_doubles_none(
    quiet: Buffer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel takes a part of the write: whole records count, the torn one and the rest wait in memory."""
    caplog.set_level(logging.INFO)
    secrets.current(NOW_MS)
    for number in range(10):
        quiet.keep(arrived(number))
    with full_disk(1000):
        quiet._journal_arrived()
        for number in range(10, 12):
            quiet.keep(arrived(number))
        quiet._journal_arrived()
    (torn,) = folder.glob("*.journal")
    whole = torn.read_bytes().count(b"\n")
    assert torn.stat().st_size == 1000
    assert 0 < whole < 10
    assert len(quiet) == 12 - whole
    assert quiet.flush() == 12
    assert sorted(clients(), key=int) == numbers(12)
    assert caplog.text.count("The journal cannot be written") == 1
    assert str(folder) not in caplog.text
    quiet.journal._try_again = 0
    quiet.keep(arrived(12))
    quiet.flush()
    assert "The journal can be written again" in caplog.text
    assert sorted(clients(), key=int) == numbers(13)


@pytest.mark.django_db
@pytest.mark.parametrize("obstacle", ["file", "missing", "open"])
def test_a_folder_that_cannot_be_used_costs_no_callback(
    quiet: Buffer, folder: Path, obstacle: str, caplog: pytest.LogCaptureFixture
) -> None:
    if obstacle == "file":
        folder.write_text("not a folder")
    elif obstacle == "missing":
        folder.symlink_to(folder.parent / "nowhere" / "at" / "all")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    for number in range(3):
        quiet.keep(arrived(number))
    assert quiet.flush() == 3
    assert clients() == numbers(3)
    assert caplog.text.count("The journal cannot be written") == 1
    assert journal.trouble(folder)


@pytest.mark.django_db
def test_the_memory_is_bounded_and_says_what_it_drops(
    quiet: Buffer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1003):
        quiet.keep(arrived(number))
    assert (len(quiet), quiet.dropped) == (1000, 3)
    assert "3 callbacks were dropped" not in caplog.text
    assert "1 callbacks were dropped" in caplog.text
    quiet.flush()
    assert clients() == numbers(3, 1003)


@pytest.mark.django_db
def test_memory_whose_commit_was_not_heard_of_is_written_once(
    quiet: Buffer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("not a folder")
    for number in range(3):
        quiet.keep(arrived(number))
    stored = journal.store

    def committed_and_gone(*told: Any) -> bool:
        stored(*told)
        raise DatabaseError("the connection broke after the commit")

    with monkeypatch.context() as broken:
        broken.setattr(journal, "store", committed_and_gone)
        with pytest.raises(DatabaseError):
            quiet.flush()
    quiet.keep(arrived(3))
    quiet.flush()
    assert clients() == numbers(4)


@pytest.mark.django_db(transaction=True)
def test_a_disk_that_hangs_delays_one_answer_by_the_bound_and_no_other(
    running: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets.current(NOW_MS)
    running.patience_seconds = 0.2
    release, write = threading.Event(), os.write

    def hang(descriptor: int, told: bytes) -> int:
        release.wait(20)
        return write(descriptor, told)

    monkeypatch.setattr(journal.os, "write", hang)
    try:
        took = []
        for number in range(200):
            begun = time.perf_counter()
            running.keep(arrived(number))
            took.append(time.perf_counter() - begun)
        print(f"\nCallback behind a hanging disk: first {took[0]:.2f} s, then {statistics.median(took) * 1e3:.2f} ms")
        assert took[0] >= 0.2
        # A busy machine may let some others wait as long, not as many as there are.
        assert sum(one >= 0.2 for one in took) < len(took) / 10
    finally:
        release.set()
    until(lambda: sorted(clients(), key=int) == numbers(200))


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_delays_no_answer(running: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.current(NOW_MS)
    release, insert = threading.Event(), journal._insert
    monkeypatch.setattr(journal, "_insert", lambda texts: (release.wait(20), insert(texts)))
    try:
        assert all(running.keep(arrived(number)) for number in range(100))
        assert clients() == []
    finally:
        release.set()
    until(lambda: clients() == numbers(100))


@pytest.mark.django_db(transaction=True)
def test_a_slow_journal_is_not_waited_for_again_until_it_is_quick(
    running: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets.current(NOW_MS)
    running.patience_seconds = 0.05
    monkeypatch.setattr(buffers, "QUICK_SECONDS", 0.02)
    write, goes_on = os.write, threading.Event()
    monkeypatch.setattr(journal.os, "write", lambda *told: (goes_on.wait(60), write(*told))[1])
    assert not running.keep(arrived(0))
    goes_on.set()
    until(lambda: clients() == numbers(1))
    goes_on.clear()
    assert (running.keep(arrived(1)), running._is_late) == (False, True)
    goes_on.set()
    # Where the machine is busy the first of them may not be quick.
    numbered = itertools.count(2)
    until(lambda: running.keep(arrived(next(numbered))) or not running._is_late)
    running.patience_seconds = 60
    assert running.keep(arrived(next(numbered)))


@pytest.mark.django_db(transaction=True)
async def test_a_server_that_starts_knows_the_secret_before_the_first_callback(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aircox_listen_stats.web import callbacks

    secrets.forget()
    recognise.forget()
    made = Buffer()
    monkeypatch.setattr(callbacks, "buffer", made)
    monkeypatch.setattr(callbacks.gc, "freeze", lambda: None)
    told: list[str] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, str]:
        return messages.pop(0)

    async def send(message: dict[str, str]) -> None:
        told.append(message["type"])

    await callbacks.lifespan({"type": "lifespan"}, receive, send)
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert secrets.known(time.time_ns() // 1_000_000) is not None
    monkeypatch.setattr(secrets, "current", _raise(DatabaseError("away")))
    await asyncio.to_thread(made.prepare)


def test_a_fork_begins_with_nothing_and_leaves_the_parents_journal_locked(folder: Path) -> None:
    parent = Buffer()
    parent.journal.write([journal.record("icecast", NOW_MS, {})])
    descriptor = parent.journal._segments()[0].descriptor
    child = os.fork()
    if child == 0:
        parent.begin_anew()
        try:
            os.fstat(descriptor)
        except OSError:
            os._exit(0 if len(parent) == len(parent.journal) == 0 else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert journal.waiting(folder) == journal.Waiting(living=1)
    parent.journal.let_go()
    assert journal.waiting(folder).dead == 1
