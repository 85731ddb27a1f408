"""Callbacks that were answered and wait: they become a report like any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..errors import MalformedRecord
from ..fields import to_ms
from ..kernel.types import Observation
from ..models import Inbox
from ..sources.base import Heard, PushSource, Report, Source

BATCH = 1_000
"""Callbacks of one transaction: a third of a second, for which aircox's Monitor waits on SQLite."""

SILENCE_MS = 6 * 3600 * 1000
"""A source that is only told, and is told nothing, may be cut off as well as have no listener.
After this long we no longer claim to know which."""


HEARS_ARRIVALS = "hears_arrivals"
"""In the cursor: somebody was told of on coming in. A source that is told of departures alone
(``listener_remove``) cannot know who is there."""


class Receiver(Protocol):
    """A source that takes callbacks, also one that polls too."""

    name: str

    def receive(self, payload: Mapping[str, Any], *, received_ms: int) -> Sequence[Observation]: ...


def takes_callbacks(source: Source) -> bool:
    return callable(getattr(source, "receive", None))


def report(source: Any, cursor: Mapping[str, Any], *, now_ms: int) -> Report | None:
    """What waits for ``source``, oldest first; None where nothing does and nothing is to be noted.

    For a source that is only ever told, the report also says how far it was heard.
    """
    waiting = list(Inbox.objects.filter(source=source.name).order_by("pk")[:BATCH])
    observations: list[Observation] = []
    counts: Counter[str] = Counter()
    for one in waiting:
        counts["read"] += 1
        try:
            told = source.receive(one.payload, received_ms=to_ms(one.received))
        except MalformedRecord as error:
            counts[f"refused_{error.reason}"] += 1
            continue
        counts["kept" if told else "skipped"] += 1
        observations += told
    only_told = isinstance(source, PushSource)
    if not waiting and not only_told:
        return None
    received = [to_ms(one.received) for one in waiting]
    if len(waiting) == BATCH:
        now_ms = min(now_ms, max(received))  # what came later is not read yet
    return Report(
        source=source.name,
        observations=observations,
        heard=_heard(source, cursor, received, now_ms) if only_told else (),
        cursor=_cursor(cursor, observations, received, now_ms) if only_told else None,
        counts=counts,
        more=len(waiting) == BATCH,
        inbox_ids=[one.pk for one in waiting],
    )


def _heard(source: Source, cursor: Mapping[str, Any], received: Sequence[int], now_ms: int) -> list[Heard]:
    """From the last look to this one, while callbacks came not too long ago."""
    last_ms = max([*received, int(cursor.get("told_ms", 0))])
    since_ms = int(cursor.get("looked_ms", now_ms))
    until_ms = min(now_ms, last_ms + SILENCE_MS)
    if last_ms == 0 or until_ms < since_ms:
        return []
    return [Heard(stream=slug, started_ms=since_ms, ended_ms=until_ms) for slug in sorted(set(source.streams.values()))]


def _cursor(
    cursor: Mapping[str, Any], observations: Sequence[Observation], received: Sequence[int], now_ms: int
) -> dict[str, Any]:
    return {
        "told_ms": max([*received, int(cursor.get("told_ms", 0))]),
        "looked_ms": now_ms,
        HEARS_ARRIVALS: bool(cursor.get(HEARS_ARRIVALS)) or any(not one.ended for one in observations),
    }
