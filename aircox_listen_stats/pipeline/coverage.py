"""Stretches in which a stream was really observed, run together where they meet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ..fields import from_ms
from ..models import Coverage
from . import rows
from .stitching import Window


def extend_coverage(heard: Iterable[Window], *, join_ms: int, totals_only: bool = False) -> list[Window]:
    """Stores the stretches ``(stream id, start, end)``; the windows where they filled a hole.

    ``totals_only``: how many listened was heard, and nobody apart. Such stretches stand by themselves: of the
    audience of an airing they know nothing.

    Stretches at most ``join_ms`` apart become one row. Going on where the last
    one ended fills no hole: whatever is on air now is computed anew anyway.
    """
    by_stream: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for stream_id, start_ms, end_ms in heard:
        by_stream[stream_id].append((start_ms, max(start_ms, end_ms)))
    filled: list[Window] = []
    for stream_id, spans in by_stream.items():
        for start_ms, end_ms in sorted(spans):
            if _extend(stream_id, start_ms, end_ms, join_ms, totals_only):
                filled.append((stream_id, start_ms, end_ms))
    return filled


def _extend(stream_id: int, start_ms: int, end_ms: int, join_ms: int, totals_only: bool) -> bool:
    """Did the stretch do anything but prolong the row that it meets?"""
    name = rows.table(Coverage)
    meeting = rows.fetch(
        f"SELECT id, started, ended FROM {name} WHERE stream_id = %s AND ended >= %s AND started <= %s"
        f" AND {'' if totals_only else 'NOT '}totals_only ORDER BY started",
        [stream_id, start_ms - join_ms, end_ms + join_ms],
    )
    if not meeting:
        Coverage.objects.create(
            stream_id=stream_id, started=from_ms(start_ms), ended=from_ms(end_ms), totals_only=totals_only
        )
        return True
    keep, known_start_ms, known_end_ms = meeting[0]
    from_start_ms = min(known_start_ms, start_ms)
    to_end_ms = max(end_ms, *(ended for _, _, ended in meeting))
    if len(meeting) == 1 and (from_start_ms, to_end_ms) == (known_start_ms, known_end_ms):
        return False
    rows.change_each(f"UPDATE {name} SET started = %s, ended = %s WHERE id = %s", [(from_start_ms, to_end_ms, keep)])
    rows.change_in(f"DELETE FROM {name} WHERE id IN ({{values}})", [], [row[0] for row in meeting[1:]])
    return len(meeting) > 1 or from_start_ms != known_start_ms


def holes(stream_id: int, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """The stretches of ``[start_ms, end_ms)`` that were not observed."""
    found, at_ms = [], start_ms
    for _, known_start_ms, known_end_ms in _meeting(stream_id, start_ms, end_ms):
        if known_start_ms > at_ms:
            found.append((at_ms, known_start_ms))
        at_ms = max(at_ms, known_end_ms)
    return [*found, (at_ms, end_ms)] if at_ms < end_ms else found


def withdraw(stream_id: int, start_ms: int, end_ms: int) -> None:
    """Takes ``[start_ms, end_ms)`` back: it was not observed after all."""
    for row_id, known_start_ms, known_end_ms in _meeting(stream_id, start_ms, end_ms):
        Coverage.objects.filter(pk=row_id).delete()
        for rest_start_ms, rest_end_ms in ((known_start_ms, start_ms), (end_ms, known_end_ms)):
            if rest_start_ms < rest_end_ms:
                Coverage.objects.create(stream_id=stream_id, started=from_ms(rest_start_ms), ended=from_ms(rest_end_ms))


def _meeting(stream_id: int, start_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
    """id, start and end of what was observed of these hours, by start; totals are no observation of anybody."""
    return rows.fetch(
        f"SELECT id, started, ended FROM {rows.table(Coverage)}"
        " WHERE stream_id = %s AND ended > %s AND started < %s AND NOT totals_only ORDER BY started",
        [stream_id, start_ms, end_ms],
    )
