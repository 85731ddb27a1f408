"""Rows as plain integers, past the ORM's instances: those of :mod:`..reports.rows`, and statements that change many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection
from django.db.models import Model

from ..reports.rows import CHUNK, chunks, fetch, fetch_in, table

__all__ = ["CHUNK", "change_each", "change_in", "chunks", "fetch", "fetch_in", "insert", "insert_numbered", "table"]


def change_in(sql: str, before: Sequence[Any], values: Iterable[Any]) -> int:
    """How many rows the UPDATE or DELETE changed, its ``{values}`` given in chunks."""
    changed = 0
    with connection.cursor() as cursor:
        for chunk in chunks(values):
            marks = ",".join(["%s"] * len(chunk))
            cursor.execute(sql.replace("{values}", marks), [*before, *chunk])
            changed += cursor.rowcount
    return changed


def change_each(sql: str, parameters: Sequence[Sequence[Any]]) -> None:
    """Runs the statement once for each row of parameters, in one go."""
    if parameters:
        with connection.cursor() as cursor:
            cursor.executemany(sql, parameters)


ROWS_OF_INSERT = 50
"""In one INSERT that tells the new ids: a thousand values, as many as any SQLite takes."""


def insert(
    model: type[Model], columns: Sequence[str], values: Sequence[Sequence[Any]], *, ignore_conflicts: bool = False
) -> None:
    """Stores the rows, in a fraction of the time that instances take: write locks are held meanwhile."""
    marks = ", ".join(["%s"] * len(columns))
    end = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    change_each(f"INSERT INTO {table(model)} ({_names(columns)}) VALUES ({marks}){end}", values)


def insert_numbered(
    model: type[Model], columns: Sequence[str], values: Sequence[Sequence[Any]], told: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Stores the rows; the id of each with its columns ``told``, in any order."""
    found: list[tuple[Any, ...]] = []
    marks = f"({', '.join(['%s'] * len(columns))})"
    with connection.cursor() as cursor:
        for first in range(0, len(values), ROWS_OF_INSERT):
            some = values[first : first + ROWS_OF_INSERT]
            cursor.execute(
                f"INSERT INTO {table(model)} ({_names(columns)}) VALUES {', '.join([marks] * len(some))}"
                f" RETURNING id, {_names(told)}",
                [value for row in some for value in row],
            )
            found += cursor.fetchall()
    return found


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(connection.ops.quote_name, columns))
