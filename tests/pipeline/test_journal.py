"""Journals of callbacks: taken up from the dead, left to the living, each record once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import override_settings

from aircox_listen_stats import checks
from aircox_listen_stats.errors import ListenStatsError
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Inbox, JournalPosition
from aircox_listen_stats.pipeline import journal

NOW_MS = 1_795_312_800_750


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "journals"
    with override_settings(AIRCOX_LISTEN_STATS={"JOURNAL_FOLDER": path, "CALLBACK_TOKENS": {"ice": "x"}}):
        yield path


def texts(*numbers: int) -> list[bytes]:
    return [journal.record("ice", NOW_MS + number, {"client": str(number)}) for number in range(*numbers)]


def left_by_the_dead(*numbers: int) -> Path:
    """The journal of a process that wrote these and was killed."""
    dead = journal.Journal()
    written = texts(*numbers)
    assert dead.write(written) == len(written)
    (segment,) = dead._segments()
    dead.let_go()
    return segment.path


def clients() -> list[str]:
    return [one.payload["client"] for one in Inbox.objects.order_by("pk")]


def numbers(*counts: int) -> list[str]:
    return [str(number) for number in range(*counts)]


@pytest.mark.django_db
def test_what_the_dead_left_is_taken_once_in_order_and_deleted(folder: Path) -> None:
    left_by_the_dead(5)
    assert journal.waiting() == journal.Waiting(dead=1, dead_bytes=sum(len(text) + 10 for text in texts(5)))
    assert journal.adopt() == 5
    assert clients() == numbers(5)
    assert [to_ms(one.received) for one in Inbox.objects.order_by("pk")] == [NOW_MS + number for number in range(5)]
    assert list(folder.iterdir()) == []
    assert not JournalPosition.objects.exists()
    assert journal.adopt() == 0


@pytest.mark.django_db
def test_the_journals_of_the_living_are_left_alone(folder: Path) -> None:
    living = journal.Journal()
    living.write(texts(3))
    assert (journal.adopt(), journal.waiting().living) == (0, 1)
    assert living.take() == 3
    living.write(texts(3, 5))
    assert living.take() == 2
    assert clients() == numbers(5)
    living.let_go()
    assert journal.adopt() == 0
    assert clients() == numbers(5)


@pytest.mark.django_db
def test_what_a_killed_process_had_taken_is_not_taken_again(folder: Path) -> None:
    dying = journal.Journal()
    dying.write(texts(3))
    dying.take()
    dying.write(texts(3, 7))
    dying.let_go()
    assert journal.adopt() == 4
    assert clients() == numbers(7)


@pytest.mark.django_db
@pytest.mark.parametrize("cut", [1, 5, 12, 30])
def test_a_record_that_was_torn_is_left_out(folder: Path, cut: int) -> None:
    path = left_by_the_dead(4)
    os.truncate(path, path.stat().st_size - cut)
    assert journal.adopt() == 3
    assert clients() == numbers(3)
    assert not path.exists()


@pytest.mark.django_db
def test_rubbish_and_zeros_of_a_power_cut_take_no_record_with_them(folder: Path) -> None:
    path = left_by_the_dead(4)
    lines = path.read_bytes().splitlines(keepends=True)
    flipped = bytearray(lines[1])
    flipped[-5] ^= 1
    path.write_bytes(lines[0] + bytes(flipped) + bytes(300_000) + b"\n" + lines[2] + b"\xff\xfe rubbish\n\n" + lines[3])
    while path.exists():
        journal.adopt()
    assert clients() == ["0", "2", "3"]


@pytest.mark.django_db
def test_a_commit_whose_answer_was_lost_is_not_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = journal.Journal()
    writing.write(texts(3))
    stored = journal.store

    def committed_and_gone(*told: Any) -> bool:
        stored(*told)
        raise DatabaseError("the connection broke after the commit")

    with monkeypatch.context() as broken:
        broken.setattr(journal, "store", committed_and_gone)
        with pytest.raises(DatabaseError):
            writing.take()
    writing.write(texts(3, 5))
    assert writing.take() == 2
    assert clients() == numbers(5)
    writing.let_go()


@pytest.mark.django_db
def test_a_transaction_that_fails_leaves_neither_rows_nor_position(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_the_dead(3)
    with monkeypatch.context() as broken:
        broken.setattr(journal, "_insert", _raise(DatabaseError("the disk of the database is full")))
        with pytest.raises(DatabaseError):
            journal.adopt()
    assert (clients(), JournalPosition.objects.count()) == ([], 0)
    assert journal.adopt() == 3


def _raise(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


@pytest.mark.django_db
def test_a_crash_between_file_and_row_leaves_a_row_and_doubles_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_by_the_dead(3)
    with monkeypatch.context() as broken:
        broken.setattr(journal.JournalPosition.objects, "filter", _only_reads(JournalPosition.objects.filter))
        with pytest.raises(DatabaseError):
            journal.adopt()
    assert not path.exists()
    assert JournalPosition.objects.count() == 1
    assert (journal.adopt(), clients()) == (0, numbers(3))


def _only_reads(filtered: Any) -> Any:
    class Reading:
        def __init__(self, found: Any) -> None:
            self.values_list = found.values_list

        def delete(self) -> None:
            raise DatabaseError("killed here")

    return lambda **which: Reading(filtered(**which))


@pytest.mark.django_db(transaction=True)
def test_two_that_take_up_at_once_take_each_record_once(folder: Path) -> None:
    for number in range(6):
        left_by_the_dead(number * 50, number * 50 + 50)
    ready = threading.Barrier(3)
    troubles: list[Exception] = []

    def take() -> None:
        try:
            ready.wait(60)
            journal.adopt()
        except DatabaseError as error:
            troubles.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=take) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    journal.adopt()
    assert sorted(clients(), key=int) == numbers(300)
    assert troubles == []


@pytest.mark.django_db
def test_a_file_that_somebody_took_while_we_waited_for_its_lock_is_not_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_by_the_dead(3)
    locked = journal.fcntl.flock

    def late(descriptor: int, how: int) -> None:
        path.unlink(missing_ok=True)
        locked(descriptor, how)

    monkeypatch.setattr(journal.fcntl, "flock", late)
    assert (journal.adopt(), clients()) == (0, [])


@pytest.mark.django_db
def test_files_are_closed_when_they_are_large_and_deleted_when_the_database_has_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 500)
    monkeypatch.setattr(journal, "CHUNK_BYTES", 200)
    writing = journal.Journal()
    for number in range(50):
        assert writing.write(texts(number, number + 1)) == 1
    assert len(list(folder.iterdir())) > 3
    assert writing.take() == 50
    assert clients() == numbers(50)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(journal, "IDLE_SECONDS", 0.0)
    assert writing.take() == 0
    assert list(folder.iterdir()) == []
    assert not JournalPosition.objects.exists()


def test_a_journal_is_bounded_while_the_database_is_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 500)
    monkeypatch.setattr(journal, "JOURNAL_BYTES", 2000)
    writing = journal.Journal()
    kept = sum(writing.write(texts(1)) for _ in range(100))
    assert 2000 <= len(writing) < 2600
    assert 30 < kept < 100
    assert caplog.text.count("wait for the database already") == 1
    writing.let_go()


@pytest.mark.django_db
def test_only_so_much_is_taken_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector must renew its lease between two looks."""
    monkeypatch.setattr(journal, "CHUNK_BYTES", 200)
    left_by_the_dead(40)
    assert 0 < journal.adopt(limit=500) < 40
    while journal.waiting().dead:
        journal.adopt(limit=500)
    assert clients() == numbers(40)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_into_which_others_may_write_is_not_believed(folder: Path, mode: int) -> None:
    """Else whoever may write there makes up listeners."""
    left_by_the_dead(3)
    folder.chmod(mode)
    assert (journal.adopt(), journal.waiting()) == (0, journal.Waiting())
    assert journal.Journal().write(texts(1)) == 0
    folder.chmod(0o700)


@pytest.mark.django_db
def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    path = left_by_the_dead(3)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert (journal.adopt(), elsewhere.exists()) == (0, True)


def test_a_file_that_died_before_it_had_a_name_is_removed_after_a_while(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    old, young = folder / "a.new", folder / "b.new"
    for one in (old, young):
        one.touch()
    os.utime(old, (time.time() - 120, time.time() - 120))
    journal.waiting()
    assert (old.exists(), young.exists()) == (False, True)


def test_fsync_is_asked_for_before_the_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(journal.os, "fdatasync", synced.append)
    writing = journal.Journal()
    writing.write(texts(1))
    assert synced == []
    with override_settings(AIRCOX_LISTEN_STATS={"JOURNAL_FOLDER": folder, "JOURNAL_FSYNC": True}):
        assert writing.write(texts(2)) == 2
        assert len(synced) == 1
        monkeypatch.setattr(journal.os, "fdatasync", _raise(OSError(5, "Input/output error")))
        # The kernel has them: what waited in memory as well would be doubled.
        assert writing.write(texts(1)) == 1
    writing.let_go()


def test_each_database_has_a_folder_of_its_own_in_the_accounts_state(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(AIRCOX_LISTEN_STATS={}):
        monkeypatch.setenv("XDG_STATE_HOME", "/state")
        one = journal.folder()
        assert one.parent == Path("/state/aircox-listen-stats")
        monkeypatch.setitem(connection.settings_dict, "NAME", "another")
        assert journal.folder() != one
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setenv("HOME", "/somebody/elses")
        assert "somebody" not in str(journal.folder())


def test_the_check_says_why_no_journal_can_be_kept(folder: Path, tmp_path: Path) -> None:
    assert checks.check_callback_journal() == []
    assert not folder.exists()
    folder.write_text("a file")
    (told,) = checks.check_callback_journal()
    assert (told.id, "no folder" in told.msg, str(tmp_path) in told.msg) == ("listen_stats.W011", True, False)
    with override_settings(AIRCOX_LISTEN_STATS={"JOURNAL_FOLDER": folder}):
        assert checks.check_callback_journal() == []


def test_fsync_is_a_switch_and_the_folder_a_path() -> None:
    from aircox_listen_stats import conf

    with pytest.raises(ListenStatsError, match="JOURNAL_FSYNC"):
        conf.read({"JOURNAL_FSYNC": "yes"})
    with pytest.raises(ListenStatsError, match="JOURNAL_FOLDER"):
        conf.read({"JOURNAL_FOLDER": 7})
