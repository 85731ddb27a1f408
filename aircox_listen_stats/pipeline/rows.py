"""Rows as plain integers, past the ORM's instances: those of :mod:`..reports.rows`, and statements that change many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection

from ..reports.rows import CHUNK, chunks, fetch, fetch_in, table

__all__ = ["CHUNK", "change_each", "change_in", "chunks", "fetch", "fetch_in", "table"]


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
