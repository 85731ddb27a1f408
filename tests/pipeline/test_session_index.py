"""The sessions' index: put off for a large import into an empty table, and never missing for long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import ProgrammingError, connection
from django.test import override_settings

from aircox_listen_stats import doctor
from aircox_listen_stats.models import ImportedLog, Lease, Session, Stream
from aircox_listen_stats.pipeline import importing, lease, session_index
from aircox_listen_stats.sources.logfile import BlockLog
from tests.sources.test_import import MOUNTS, NOW_MS, STATION, history, whole, written

from .test_collect import collector
from .test_rollup import session

pytestmark = pytest.mark.django_db(transaction=True)

ALL = {one.name for one in Session._meta.indexes}


@pytest.fixture(autouse=True)
def station(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A station whose smallest log is worth it."""
    monkeypatch.setattr(session_index, "WORTH_BYTES", 0)
    with override_settings(AIRCOX_LISTEN_STATS=STATION):
        for slug in MOUNTS.values():
            Stream.objects.create(slug=slug, station_id=1, source="icecast")
        yield
    session_index.make_missing()


def run(path: Path, **plan: object) -> None:
    importing.run([BlockLog(path)], importing.Plan(source="import", mounts=MOUNTS, **plan), now_ms=NOW_MS)  # type: ignore[arg-type]


def there() -> set[str]:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, Session._meta.db_table)
    return ALL & set(found)


def drop() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX {connection.ops.quote_name(session_index.NAME)}")


def numbers_at_once() -> int:
    """How many of the sessions' numbers a connection takes at once."""
    if connection.vendor != "postgresql":
        return 1
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence(%s, 'id')::regclass",
            [Session._meta.db_table],
        )
        return int(cursor.fetchone()[0])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each step that was stored, whether the index was there."""
    found: list[bool] = []
    store = importing.Run.store

    def noting(self: importing.Run, step: object) -> float:
        found.append(session_index.NAME in there())
        return store(self, step)  # type: ignore[arg-type]

    monkeypatch.setattr(importing.Run, "store", noting)
    return found


def test_sessions_are_numbered_by_the_thousand_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    store = importing.Run.store

    def noting(self: importing.Run, step: object) -> float:
        numbers.append(numbers_at_once())
        return store(self, step)  # type: ignore[arg-type]

    monkeypatch.setattr(importing.Run, "store", noting)
    run(written(tmp_path / "log", history(400)))
    assert set(numbers) == {session_index.NUMBERS_AT_ONCE if connection.vendor == "postgresql" else 1}
    assert numbers_at_once() == 1


def test_an_empty_table_is_filled_without_it_on_postgresql_alone(tmp_path: Path, seen: list[bool]) -> None:
    lines = history(400)
    run(written(tmp_path / "log", lines))
    assert Session.objects.count() == len(whole(lines))
    assert seen
    assert set(seen) == {connection.vendor != "postgresql"}
    assert there() == ALL


@pytest.mark.parametrize("who", ["collector", "other source", "replace", "small log"])
def test_it_stays_where_somebody_needs_it(
    tmp_path: Path, seen: list[bool], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if who == "collector":
        assert lease.acquire(lease.COLLECTOR, "one", now_ms=NOW_MS)
    elif who == "other source":
        session(Stream.objects.first(), 0, 60)  # type: ignore[arg-type]
    elif who == "small log":
        monkeypatch.setattr(session_index, "WORTH_BYTES", 1 << 30)
    run(written(tmp_path / "log", history(200)), replace=who == "replace")
    assert set(seen) == {True}
    assert there() == ALL


def test_a_collector_that_let_its_lease_go_does_not_need_it(tmp_path: Path, seen: list[bool]) -> None:
    assert lease.acquire(lease.COLLECTOR, "one", now_ms=NOW_MS - 1000)
    lease.release(lease.COLLECTOR, "one", now_ms=NOW_MS - 1)
    assert Lease.objects.exists()
    run(written(tmp_path / "log", history(200)))
    assert set(seen) == {connection.vendor != "postgresql"}


def test_an_import_that_fails_makes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: importing.Run, step: object) -> float:
        raise RuntimeError

    monkeypatch.setattr(importing.Run, "store", fail)
    with pytest.raises(RuntimeError):
        run(written(tmp_path / "log", history(200)))
    assert there() == ALL


def test_after_a_killed_import_the_doctor_tells_and_the_collector_makes_it() -> None:
    drop()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            session_index._number(cursor, at_once=7)
    told = [one for one in doctor.examine(now_ms=NOW_MS) if session_index.NAME in one.text]
    assert [one.grade for one in told] == [doctor.Grade.WARNING]
    one = collector()
    one.step(now_ms=NOW_MS)
    one.close()
    assert there() == ALL
    assert numbers_at_once() == 1
    assert session_index.missing() == []


def test_the_next_import_makes_it_though_it_may_not_leave_it_out(tmp_path: Path, seen: list[bool]) -> None:
    drop()
    assert lease.acquire(lease.COLLECTOR, "one", now_ms=NOW_MS)
    run(written(tmp_path / "log", history(200)))
    assert set(seen) == {True}
    assert there() == ALL
    assert ImportedLog.objects.get().finished is not None


def test_one_that_was_never_finished_is_made_anew() -> None:
    """PostgreSQL keeps one whose maker was killed, and does not use it; SQLite makes it whole or not at all."""
    unfinished = []
    if connection.vendor == "postgresql":
        unfinished = [session_index.NAME]
        with connection.cursor() as cursor:
            cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", unfinished)
    assert session_index.missing() == unfinished
    assert session_index.make_missing() == unfinished
    assert session_index.missing() == []
    assert there() == ALL


def test_a_table_of_another_role_is_filled_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is slower, and that is all."""

    def refuse(cursor: object, *, at_once: int) -> None:
        raise ProgrammingError("must be owner of sequence")

    with monkeypatch.context() as patched:
        patched.setattr(session_index, "_number", refuse)
        assert not session_index.put_off(to_read_bytes=1, source="import", now_ms=NOW_MS)
    assert there() == ALL
