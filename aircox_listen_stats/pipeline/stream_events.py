"""Stream events: taken at the door, and handed to the collector.

One row of the Inbox goes with each portion of events, in their transaction. It
says what only the next minutes need: under which key who was known before the
secret changed. The events themselves stay (:mod:`.event_rows`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..fields import to_ms
from ..kernel.types import ListenerMark
from ..models import Inbox, StreamEvent
from ..sources.base import Heard, Report
from ..sources.stream_events import EXPECTED, BadField, Event, Request, StreamEventsSource, Told, decode
from . import dead_letters, rows
from .event_rows import COLUMNS, PORTION, Door, store
from .inbox import HEARS_ARRIVALS, SILENCE_MS

SHOWN_REFUSALS = 100
"""Refusals that an answer lists; the dead letters have the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An event that was not taken. ``value`` is its shape (:func:`dead_letters.shape`)."""

    index: int
    field: str
    value: str
    reason: str
    expected: str


@dataclass(slots=True, kw_only=True)
class Taken:
    """What became of a batch: ``received`` is the sum of all others, of ``ignored`` by why it is no listening."""

    received: int = 0
    accepted: int = 0
    duplicates: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    refusals_left_out: int = 0


# The door ------------------------------------------------------------------------------------------


def take(source: StreamEventsSource, body: bytes, *, most_events: int, now_ms: int) -> Taken:
    """What became of the events in ``body``. Raises NoList, and TooManyEvents before anything is stored."""
    told = decode(body)
    if len(told) > most_events:
        raise TooManyEvents(len(told), most_events)
    door = Door(source, now_ms)
    accepted: list[Told] = []
    letters: list[dead_letters.Letter] = []
    ignored: Counter[str] = Counter()
    for index, one in enumerate(told):
        try:
            if not isinstance(one, Event):
                raise one[0]
            request, reason = source.request(one, now_ms=now_ms, oldest_ms=door.oldest_ms)
            if request is None:
                ignored[reason] += 1
                continue
            accepted.append(door.told(one, request))
        except BadField as error:
            letters.append(dead_letters.letter(door, index, error, one if isinstance(one, Event) else one[1]))
    taken = Taken(received=len(told), ignored=dict(ignored), refused=len(letters))
    counts = Counter({"read": len(told)})
    counts.update({f"skipped_{reason}": count for reason, count in ignored.items()})
    counts.update(f"refused_{letter.reason}" for letter in letters)
    dead_letters.keep(source.name, letters, now_ms=now_ms)
    taken.accepted = store(source.name, accepted, counts, now_ms=now_ms)
    taken.duplicates = len(accepted) - taken.accepted
    taken.refusals = [
        Refusal(
            index=one.index,
            field=one.field,
            value=one.value,
            reason=one.reason,
            expected=EXPECTED.get(one.field, "a text"),
        )
        for one in letters[:SHOWN_REFUSALS]
    ]
    taken.refusals_left_out = len(letters) - len(taken.refusals)
    return taken


class TooManyEvents(ValueError):
    """A batch of more events than the settings allow."""

    def __init__(self, seen: int, most: int) -> None:
        super().__init__(f"{seen} events in one batch; expected {most} at most. Send smaller batches.")


# The collector -------------------------------------------------------------------------------------


def report(source: StreamEventsSource, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
    """What the oldest portions that wait say, as listening; and how far the source was heard."""
    waiting, more = _waiting(source.name)
    told: list[Told] = []
    counts: Counter[str] = Counter()
    for one in waiting:
        if "events" in one.payload:
            counts.update(one.payload["counts"])
            told += _told(one)
        else:  # a callback of Icecast's, sent under this source's name
            counts.update(("read", "refused_payload"))
    heard = source.hear(told, cursor, now_ms=now_ms, more=more)
    assert heard.cursor is not None
    counts.update(heard.counts)
    told_ms = max([int(cursor.get("told_ms", 0)), *(to_ms(one.received) for one in waiting)])
    until_ms = int(heard.cursor["until_ms"])
    return replace(
        heard,
        # Who tells nothing for so long may be cut off: nobody is taken to have left.
        census=heard.census if until_ms <= told_ms + SILENCE_MS else None,
        heard=_heard(source, int(cursor.get("until_ms", until_ms)), min(until_ms, told_ms + SILENCE_MS)),
        cursor={**heard.cursor, "told_ms": told_ms, HEARS_ARRIVALS: source.follows_open_sessions},
        counts=counts,
        inbox_ids=[one.pk for one in waiting],
    )


def _waiting(source: str) -> tuple[list[Inbox], bool]:
    """The oldest rows with one portion of events together, and whether there are more."""
    found: list[Inbox] = []
    events = 0
    for one in Inbox.objects.filter(source=source).order_by("pk")[: PORTION + 1]:
        events += int(one.payload.get("events", 0))
        if found and (events > PORTION or len(found) == PORTION):
            return found, True
        found.append(one)
    return found, False


def _told(one: Inbox) -> list[Told]:
    """The events that came with a row of the Inbox."""
    previous = dict(one.payload["previous"])
    return [
        Told(
            key=key,
            request=Request(
                stream=stream,
                origin=origin,
                started_ms=started_ms,
                ended_ms=ended_ms,
                method=method,
                status=status,
                bytes_sent=bytes_sent,
                rendition=rendition,
                number=number,
                is_whole=bool(is_whole),
                referrer=referrer,
            ),
            who=ListenerMark(
                listener=listener,
                previous=previous.get(listener),
                country=country,
                app=app,
                exclusion=exclusion,
                rule=rule,
            ),
            identity_known=bool(identity_known),
            session=session,
        )
        for (
            key,
            _,
            _,
            stream,
            origin,
            listener,
            identity_known,
            started_ms,
            ended_ms,
            method,
            status,
            bytes_sent,
            rendition,
            number,
            is_whole,
            session,
            country,
            app,
            exclusion,
            rule,
            _,
            referrer,
        ) in rows.fetch(f"SELECT {', '.join(COLUMNS)} FROM {rows.table(StreamEvent)} WHERE batch = %s", [one.pk])
    ]


def _heard(source: StreamEventsSource, since_ms: int, until_ms: int) -> list[Heard]:
    if until_ms < since_ms:
        return []
    return [Heard(stream=slug, started_ms=since_ms, ended_ms=until_ms) for slug in sorted(set(source.streams.values()))]
