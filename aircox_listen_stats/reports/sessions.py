"""Sessions one after the other, for exports: as many as there are, at constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.db import connection

from ..models import LONG_SESSION_MS, Session

AT_ONCE_MS = 3600 * 1000
"""Sessions that ended within an hour are held together."""


class HeardSession(NamedTuple):
    """A session that counts, in milliseconds; ``parts`` are instants, one at least."""

    stream_id: int
    listener: int
    started_ms: int
    ended_ms: int
    parts: tuple[tuple[int, int], ...]
    country: str
    app: str
    bytes_sent: int | None


_COLUMNS = "id, stream_id, listener, started, ended, parts, country, app, bytes_sent"


def each_ended(stream_ids: Sequence[int], started_ms: int, ended_ms: int) -> Iterator[HeardSession]:
    """The closed sessions that ended in ``[started_ms, ended_ms)``, in that order; excluded ones are left out.

    Short and long ones have an index each.
    """
    marks = ",".join(["%s"] * len(stream_ids))
    select = (
        f"SELECT {_COLUMNS} FROM {Session._meta.db_table}"
        f" WHERE stream_id IN ({marks}) AND exclusion = '' AND ended >= %s AND ended < %s AND NOT is_open AND "
    )
    sql = f"{select} NOT is_long UNION ALL {select} is_long ORDER BY ended, id"
    for begin_ms in range(started_ms, ended_ms, AT_ONCE_MS):
        asked = [*stream_ids, begin_ms, min(begin_ms + AT_ONCE_MS, ended_ms)]
        yield from _read(sql, [*asked, *asked])


def begun(stream_ids: Sequence[int], started_ms: int, ended_ms: int) -> list[HeardSession]:
    """The sessions that began in ``[started_ms, ended_ms)``, in that order, open ones up to their last sighting."""
    marks = ",".join(["%s"] * len(stream_ids))
    select = (
        f"SELECT {_COLUMNS} FROM {Session._meta.db_table} WHERE stream_id IN ({marks}) AND exclusion = ''"
        " AND started >= %s AND started < %s AND ended >= %s AND "
    )
    kinds = ("NOT is_open AND NOT is_long AND ended < %s", "is_long", "is_open AND NOT is_long")
    asked = [*stream_ids, started_ms, ended_ms, started_ms]
    sql = " UNION ALL ".join(select + kind for kind in kinds)
    return list(_read(f"{sql} ORDER BY started, id", [*asked, ended_ms + LONG_SESSION_MS, *asked, *asked]))


def _read(sql: str, values: Sequence[int]) -> Iterator[HeardSession]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        found = cursor.fetchall()
    for _, stream_id, listener, started, ended, told, country, app, bytes_sent in found:
        offsets = json.loads(told) if isinstance(told, str) else told
        parts = tuple((started + first, started + last) for first, last in offsets) if offsets else ((started, ended),)
        yield HeardSession(stream_id, listener, started, ended, parts, country, app, bytes_sent)
