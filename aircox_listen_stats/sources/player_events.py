"""Web players that tell of themselves, as the source of a live stream.

The pipeline turns what a player told (``pipeline/players.py``) into stretches
that were really played and puts those of streams that this source counts into
the Inbox, in the form below. A stretch is told again as it grows: it keeps its
number and its start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import MalformedRecord
from ..kernel.player import LATENESS_MS, Played
from ..kernel.types import MS, ListenerMark, Observation
from .base import PushSource

__all__ = ["PlayerEventsSource", "observation", "payload_of"]

LONGEST_MS = 366 * 24 * 3600 * MS
"""A stretch longer than a year is none."""


def payload_of(stretch: Played, *, stream: str, visit: int, mark: ListenerMark) -> dict[str, Any]:
    """What the Inbox keeps of a stretch of live listening: no address, no agent."""
    return {
        "stream": stream,
        "client": f"{visit:x}.{stretch.sequence}",
        "started_ms": stretch.started_ms,
        "seen_ms": stretch.ended_ms,
        "ended": not stretch.is_open,
        "mark": {
            "listener": mark.listener,
            "country": mark.country,
            "app": mark.app,
            "exclusion": str(mark.exclusion),
            "rule": mark.rule,
        },
    }


def observation(payload: Mapping[str, Any], *, received_ms: int) -> Observation:
    """The observation of one Inbox payload. Raises MalformedRecord."""
    try:
        found = Observation(
            stream=_of(str, payload["stream"]),
            client=_of(str, payload["client"]),
            started_ms=_of(int, payload["started_ms"]),
            seen_ms=_of(int, payload["seen_ms"]),
            ended=_of(bool, payload["ended"]),
            mark=ListenerMark(**payload["mark"]),
        )
    except (KeyError, TypeError) as error:
        raise MalformedRecord("payload", "An Inbox row that does not follow its format.") from error
    if not 0 <= found.seen_ms - found.started_ms <= LONGEST_MS or found.seen_ms > received_ms + LATENESS_MS:
        raise MalformedRecord("span", "A stretch that ends before it began, or after it was told.")
    return found


class PlayerEventsSource(PushSource):
    """The station's own web player tells who listens; for a stream that nothing else counts."""

    late_seconds = 3600

    def receive(self, payload: Mapping[str, Any], *, received_ms: int) -> Sequence[Observation]:
        return (observation(payload, received_ms=received_ms),)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} was expected")
    return value
