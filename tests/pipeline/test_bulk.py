"""Sessions stored in bulk are what the ORM would have stored, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from django.db import connection

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import LONG_SESSION_MS, Session, Stream
from aircox_listen_stats.pipeline import bulk

pytestmark = pytest.mark.django_db

LABELS = [("BE", "VLC", "", ""), ("", "R'é\\c\t\"%s", "bot", "it's 100 %"), ("FR", "", "staff", "staff network 1")]
SOURCE = "old logs' 100 %s \\"
BEGIN_MS = 1_795_312_000_000


def rows_of(stream: Stream, count: int, way: bulk.Way) -> tuple[bulk.Rows, list[tuple[Any, ...]]]:
    """Rows of every kind, and what they must be once they are stored."""
    number = np.arange(count)
    started_ms = BEGIN_MS + number * 1000
    ended_ms = started_ms + np.where(number % 17 == 0, LONG_SESSION_MS + 1, LONG_SESSION_MS)
    listener = (1 << 63) - 1 - number * 12_345_678_901
    parts = {row: json.dumps([[0, 5], [9, row + 10]]) for row in range(0, count, 5)}
    rows = bulk.Rows(
        stream_id=stream.pk,
        source=SOURCE,
        listener=listener,
        started_ms=started_ms,
        ended_ms=ended_ms,
        played_ms=number,
        parts=parts,
        label=number % 3,
        labels=LABELS,
        way=way,
    )
    expected = [
        (
            stream.pk, int(listener[row]), int(started_ms[row]), int(ended_ms[row]), row,
            json.loads(parts[row]) if row in parts else None, False, row % 17 == 0, *LABELS[row % 3], SOURCE,
        )
        for row in range(count)
    ]  # fmt: skip
    return rows, expected


def stored() -> list[tuple[Any, ...]]:
    found = []
    for one in Session.objects.order_by("started"):
        values = [getattr(one, name) for name in bulk.COLUMNS]
        found.append((*values[:2], to_ms(values[2]), to_ms(values[3]), *values[4:]))
    return found


@pytest.mark.parametrize("count", [0, 1, 40, 5003])
def test_every_kind_of_session_comes_back_as_it_was_given(stream: Stream, count: int) -> None:
    rows, expected = rows_of(stream, count, bulk.way())
    rows.insert()
    assert len(rows) == count
    assert stored() == expected


@pytest.mark.parametrize("values_at_once", [0, 999])
def test_drivers_that_take_fewer_values_at_once_store_the_same(stream: Stream, values_at_once: int) -> None:
    """Old SQLites, and drivers without COPY."""
    rows, expected = rows_of(stream, 700, replace(bulk.way(), copies=False, values_at_once=values_at_once))
    rows.insert()
    assert stored() == expected


def test_the_way_is_that_of_the_database() -> None:
    way = bulk.way()
    assert way.copies == (connection.vendor == "postgresql")
    assert (way.values_at_once >= 999) == (connection.vendor == "sqlite")


def test_the_columns_are_fields_of_a_session_and_the_others_may_be_null() -> None:
    fields = {one.column: one for one in Session._meta.concrete_fields}
    assert set(bulk.COLUMNS) <= set(fields)
    assert all(one.null or one.primary_key for name, one in fields.items() if name not in bulk.COLUMNS)
