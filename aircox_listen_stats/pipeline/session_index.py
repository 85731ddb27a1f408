"""The index by which sessions are found: left out for the time that an empty table is filled, and made again.

Half of what PostgreSQL does for an imported session is to put it into this
index; made from the whole table afterwards, it costs a tenth. That is done
where nobody misses it meanwhile: nothing but this import has written sessions,
and no collector runs. An import that is killed leaves it missing: the next
import or the next collector makes it again, and the doctor tells.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.db import OperationalError, ProgrammingError, connection, transaction
from django.db.models import Index

from ..models import Lease, Session
from . import lease, rows

__all__ = ["make_missing", "missing", "put_off"]

log = logging.getLogger(__name__)

NAME = "listen_session_end"

WORTH_BYTES = 32 * 1024 * 1024
"""Of a log with more than this to read the index is put off: a fifth of a million lines."""

SORTING_MB = 128
"""What PostgreSQL may take to sort what goes into an index: four million sessions; by itself it takes 64."""

NUMBERS_AT_ONCE = 1000
"""A number for each row costs PostgreSQL a twelfth of what it does for it."""

LOCK_MS = 500
"""So long it is waited for readers of the table; then the index stays."""


def put_off(*, to_read_bytes: int, source: str, now_ms: int) -> bool:
    """Drops the index if that is worth it and nobody else needs it. Call it outside of any transaction."""
    if connection.vendor != "postgresql" or connection.in_atomic_block or to_read_bytes < WORTH_BYTES:
        return False
    if _is_collecting(now_ms) or Session.objects.exclude(source=source).exists():
        return False
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            cursor.execute(f"DROP INDEX IF EXISTS {connection.ops.quote_name(NAME)}")
            _number(cursor, at_once=NUMBERS_AT_ONCE)
    except (OperationalError, ProgrammingError):
        return False  # somebody reads, or the table is another role's: the import is slower, and that is all
    return True


def missing() -> list[str]:
    """The indexes of the session table that are not there, or were not made to their end."""
    return sorted(one.name for one, _ in _missing())


def make_missing(*, is_alone: bool = False) -> list[str]:
    """Makes what is :func:`missing`; what was made.

    Others read and write meanwhile; with ``is_alone`` they only read, and it
    takes half the time.
    """
    found = _missing()
    # PostgreSQL does it beside others outside of transactions alone.
    is_beside = connection.vendor == "postgresql" and not connection.in_atomic_block and not is_alone
    more = {"concurrently": True} if is_beside else {}
    with _sorting_fast() if found else nullcontext():
        for index, is_unfinished in found:
            with connection.schema_editor(atomic=False) as editor:
                if is_unfinished:
                    editor.remove_index(Session, index)
                editor.add_index(Session, index, **more)
            log.info("Index %s of the sessions was made again.", index.name)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            _number(cursor, at_once=1)
    return sorted(one.name for one, _ in found)


def _missing() -> list[tuple[Index, bool]]:
    """Each one that is missing, and whether a part of it is in the way."""
    with connection.cursor() as cursor:
        there = connection.introspection.get_constraints(cursor, Session._meta.db_table)
    unfinished = _unfinished()
    indexes = Session._meta.indexes
    return [(one, one.name in unfinished) for one in indexes if one.name not in there or one.name in unfinished]


def _number(cursor: Any, *, at_once: int) -> None:
    """Lets a connection take so many of the sessions' numbers at once; one is what PostgreSQL does by itself."""
    cursor.execute(
        "SELECT seqrelid::regclass::text FROM pg_sequence"
        " WHERE seqrelid = pg_get_serial_sequence(%s, %s)::regclass AND seqcache <> %s",
        [rows.table(Session), Session._meta.pk.column, at_once],
    )
    for (name,) in cursor.fetchall():
        cursor.execute(f"ALTER SEQUENCE {name} CACHE {at_once:d}")


@contextmanager
def _sorting_fast() -> Iterator[None]:
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SET maintenance_work_mem = '{SORTING_MB}MB'")
        yield
        cursor.execute("RESET maintenance_work_mem")


def _unfinished() -> set[str]:
    """Those that PostgreSQL does not use, since whoever made them was killed."""
    if connection.vendor != "postgresql":
        return set()
    found = rows.fetch(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = %s::regclass AND NOT i.indisvalid",
        [rows.table(Session)],
    )
    return {name for (name,) in found}


def _is_collecting(now_ms: int) -> bool:
    return Lease.objects.filter(pk=lease.COLLECTOR, expires__gt=now_ms).exclude(holder="").exists()
