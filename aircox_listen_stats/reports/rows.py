"""Rows as plain integers, past the ORM's instances: for reports and pipeline where thousands of them pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import connection, models

CHUNK = 900
"""Parameters in one IN list: SQLite took no more than 999 until 3.32."""


def table(model: type[models.Model]) -> str:
    """The quoted name of the model's table."""
    return connection.ops.quote_name(model._meta.db_table)


def fetch(sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Every row of the query. Instants come as milliseconds, JSON as text."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def fetch_in(sql: str, before: Sequence[Any], values: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Every row of the query whose ``{values}`` is an IN list, asked in chunks.

    ``before`` are the parameters that stand before it.
    """
    found: list[tuple[Any, ...]] = []
    for chunk in chunks(values):
        marks = ",".join(["%s"] * len(chunk))
        found += fetch(sql.replace("{values}", marks), [*before, *chunk])
    return found


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """``values`` in lists of at most CHUNK."""
    rest = list(values)
    for start in range(0, len(rest), CHUNK):
        yield rest[start : start + CHUNK]
