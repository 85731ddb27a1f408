"""What was heard of a window, as :mod:`..reports.heard` reads it; and up to when anything was heard at all."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..models import SourceState, Stream
from ..reports.heard import Heard, covered, heard, heard_otherwise, sessions_known_from_ms, together
from . import rows
from .lateness import knows_who_is_there

__all__ = ["Heard", "covered", "heard", "heard_otherwise", "heard_until", "sessions_known_from_ms", "together"]

SILENT_MS = 2 * 60 * 1000
"""A source that was not heard for longer is silent: what it missed shows as a gap, not as a running airing's end."""


def heard_until(streams: Sequence[Stream], now_ms: int) -> int:
    """The studio's instant up to which every stream was heard; now, where one has been silent for long.

    Between the last census and now nobody has been seen, and nobody has left.
    """
    states = rows.fetch_in(
        f"SELECT source, heard, cursor FROM {rows.table(SourceState)}"
        " WHERE heard IS NOT NULL AND source IN ({values})",
        [],
        {stream.source for stream in streams if stream.active},
    )
    heard = {
        source: heard_ms
        for source, heard_ms, cursor in states
        if knows_who_is_there(source, json.loads(cursor) if isinstance(cursor, str) else cursor)
    }
    delayed = [heard[one.source] - one.delay_ms for one in streams if one.active and one.source in heard]
    silent_since_ms = min((heard[one.source] for one in streams if one.active and one.source in heard), default=0)
    if silent_since_ms < now_ms - SILENT_MS:
        return now_ms
    return min(now_ms, *delayed)
