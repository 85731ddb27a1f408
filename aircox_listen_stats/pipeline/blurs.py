"""Whether the listeners of a stream can be told apart: found while their addresses are at hand, kept as two numbers.

Every process that meets addresses (the collector, and web processes that are
told of listeners) remembers which listeners share one (:mod:`.households`).
Once a minute it counts, for each stream, how many of the last hour's listeners
each address has. Where one address carries most of a stream, that is noted as
a stretch of :class:`Blur`: how many of how many, since when, and until when it
was found. No address is kept, and no hash of one.

What an address has is the greater of two: its sockets at once, and its
different agents. So a listener who reconnects all the time is one, a home
with three radios is three, a relay is all its sockets, and a proxy is
everybody behind it.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Count, Max, Min, Q

from .. import conf
from ..errors import place_of
from ..fields import from_ms
from ..kernel import calendar
from ..kernel.arrays import Ints, Words
from ..kernel.homes import listeners_of
from ..models import Blur, Connection, Session, Stream
from ..reports.heard import sessions_known_from_ms
from . import households, lease, rows

__all__ = [
    "LEAST_COMPARED",
    "SHARED_ADDRESS",
    "Compared",
    "compare",
    "in_common",
    "join",
    "look",
    "look_at_sources",
    "look_in_time",
    "mend",
    "note_past",
    "of_sessions",
]

log = logging.getLogger(__name__)

MS = 1000
SHARED_ADDRESS = "shared address"
"""The rule of sessions behind an address that is not one listener's. It excludes nobody."""

WINDOW_MS = 3600 * MS
"""Whose sockets are compared: access logs and departures tell of them at their end."""

LOOK_EVERY_MS = 60 * MS

LEAST_COMPARED = 10
"""Of fewer listeners nothing is concluded: half of nine may be one family."""

STILL_MANY = 5
"""What was found stays found, when fewer are there to be compared, while one address has so many and most."""

LEAST_UNNAMED = 2
"""One listener of whom only our proxy is known can be taken for nobody else."""

UNNAMED_SHARE = 0.05
"""Of the sockets, how many may be known by our own proxy's address alone: one in twenty moves no figure far."""

NAMED_AFTER_MS = 60 * MS
"""A socket that was polled behind our proxy is named by its callback within a second; a busy journal takes longer."""

LAPSE_MS = 24 * 3600 * MS
"""What was not found for a day is another finding. What was refuted, and found again within WINDOW_MS, is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Of a stream's listeners of an hour, of a log's of a day: ``most`` of ``compared`` have the same address,
    from ``since_ms`` to ``until_ms``.

    ``unknown`` listeners were not compared: another process met their addresses, or this one before it started.
    """

    most: int
    compared: int
    unknown: int
    since_ms: int
    until_ms: int

    @property
    def is_shared(self) -> bool:
        return self.compared >= LEAST_COMPARED and self._is_most

    @property
    def is_well(self) -> bool:
        """Whether it says that no address carries most of the stream; a few of many say nothing."""
        says = self.compared >= LEAST_COMPARED or self.compared > self.unknown
        return says and not (self._is_most and self.most >= STILL_MANY)

    @property
    def _is_most(self) -> bool:
        return 2 * self.most > self.compared


# Addresses -----------------------------------------------------------------------------------------


def look(*, now_ms: int) -> None:
    """Compares the streams' listeners by address, as far as this process met them, and notes what it finds."""
    told = rows.fetch(
        f"SELECT stream_id, listener, started, seen FROM {rows.table(Connection)}"
        " WHERE seen > %s AND exclusion = '' AND identity_known",
        [now_ms - WINDOW_MS],
    )
    by_stream: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for stream_id, *socket in told:
        by_stream[stream_id].append(tuple(socket))
    for stream_id, sockets in by_stream.items():
        found = compare(sockets)
        if found.is_shared:
            since_ms = max(found.since_ms, now_ms - WINDOW_MS)
            _found(stream_id, Blur.Why.ADDRESS, found.most, found.compared, since_ms=since_ms, now_ms=now_ms)
        elif found.is_well:
            _well(stream_id, Blur.Why.ADDRESS)


def compare(sockets: Iterable[tuple[int, int, int]]) -> Compared:
    """What these sockets (listener, start, last sighting) of one stream have in common."""
    met, unknown = [], set()
    for listener, started_ms, seen_ms in sockets:
        place = households.of(listener)
        if place is None:
            unknown.add(listener)
        else:
            met.append((*place, started_ms, seen_ms))
    # Both numbers of a place are hashes of 64 bits: their order means nothing.
    home, player, started_ms, seen_ms = np.array(met, dtype=np.uint64).reshape(-1, 4).T
    return in_common(home, player, started_ms.astype(np.int64), seen_ms.astype(np.int64), unknown=len(unknown))


def in_common(home: Words, player: Ints | Words, started_ms: Ints, ended_ms: Ints, *, unknown: int = 0) -> Compared:
    """What sockets of one stream have in common: where each was, with which player, from when to when.

    All of shape (sockets,).
    """
    homes, listeners = listeners_of(home, player, started_ms, ended_ms)
    if not len(homes):
        return Compared(most=0, compared=0, unknown=unknown, since_ms=0, until_ms=0)
    top = int(np.argmax(listeners))
    there = home == homes[top]
    return Compared(
        most=int(listeners[top]),
        compared=int(listeners.sum()),
        unknown=unknown,
        since_ms=int(started_ms[there].min()),
        until_ms=int(np.maximum(started_ms, ended_ms)[there].max()),
    )


class _Turn:
    """When this process looks next: the first time a minute after it was first told of anybody."""

    def __init__(self) -> None:
        self._due_ms: int | None = None
        self._lock = threading.Lock()

    def has_come(self, now_ms: int) -> bool:
        with self._lock:
            if self._due_ms is None or self._due_ms > now_ms + LOOK_EVERY_MS:  # or the clock went back
                self._due_ms = now_ms + LOOK_EVERY_MS
            if now_ms < self._due_ms:
                return False
            self._due_ms = now_ms + LOOK_EVERY_MS
            return True


_turn = _Turn()


def look_in_time(*, now_ms: int) -> None:
    """:func:`look`, once a minute, for a web process that has other things to do: trouble is told to the log alone."""
    if not _turn.has_come(now_ms):
        return
    try:
        look(now_ms=now_ms)
    except DatabaseError as error:
        log.warning("Listeners were not compared by address (%s).", place_of(error))


# What sources themselves leave open ----------------------------------------------------------------


def look_at_sources(joining: Collection[str], *, now_ms: int) -> None:
    """Notes which streams have listeners of whom only our own proxy is known, and which a source tells apart badly.

    ``joining`` are the sources that take several sockets for one listener. For the collector alone.
    """
    since_ms = now_ms - WINDOW_MS
    for stream_id, sockets, named in rows.fetch(
        f"SELECT stream_id, COUNT(*), SUM(CASE WHEN identity_known THEN 1 ELSE 0 END) FROM {rows.table(Connection)}"
        " WHERE seen > %s AND started <= %s AND exclusion = '' GROUP BY stream_id",
        [since_ms, now_ms - NAMED_AFTER_MS],
    ):
        unnamed = sockets - named
        if unnamed >= LEAST_UNNAMED and unnamed > UNNAMED_SHARE * sockets:
            _found(stream_id, Blur.Why.PROXY, unnamed, sockets, since_ms=since_ms, now_ms=now_ms)
        else:
            _well(stream_id, Blur.Why.PROXY)
    for stream in Stream.objects.active():
        if stream.source in joining:
            _found(stream.pk, Blur.Why.SOURCE, None, None, since_ms=now_ms - LOOK_EVERY_MS, now_ms=now_ms)
        else:
            _well(stream.pk, Blur.Why.SOURCE)


# What imports leave open ---------------------------------------------------------------------------


def join(stretches: Iterable[Compared]) -> list[Compared]:
    """The stretches in order, those that LAPSE_MS or more do not part as one, with the numbers of the fullest."""
    joined: list[Compared] = []
    for one in sorted(stretches, key=lambda each: each.since_ms):
        if joined and one.since_ms - joined[-1].until_ms < LAPSE_MS:
            last = joined.pop()
            one = replace(
                max(last, one, key=lambda each: each.compared),
                since_ms=last.since_ms,
                until_ms=max(last.until_ms, one.until_ms),
            )
        joined.append(one)
    return joined


def note_past(stream_id: int, stretches: Iterable[Compared]) -> None:
    """Notes when most of the listeners in logs of a stream came from one address. Noted again, nothing changes.

    What was found of these days before is joined; what still goes on, does.
    """
    own = Blur.objects.filter(stream_id=stream_id, why=Blur.Why.ADDRESS)
    for one in stretches:
        near = own.filter(started__lt=from_ms(one.until_ms + LAPSE_MS), ended__gt=from_ms(one.since_ms - LAPSE_MS))
        known = list(near.order_by("-is_open", "pk"))
        kept = known[0] if known else Blur(stream_id=stream_id, why=Blur.Why.ADDRESS, most=0, compared=0)
        if not kept.is_open and one.compared > kept.compared:
            kept.most, kept.compared = one.most, one.compared
        kept.started = min([from_ms(one.since_ms), *(each.started for each in known)])
        kept.ended = max([from_ms(one.until_ms), *(each.ended for each in known)])
        kept.save()
        own.filter(pk__in=[each.pk for each in known[1:]]).delete()


def mend(stream_id: int, started_ms: int, ended_ms: int, *, now_ms: int) -> None:
    """Takes back what was found of a stretch whose listeners another source tells of now, alone.

    What goes on before it and after it stays.
    """
    start, end = from_ms(started_ms), from_ms(ended_ms)
    touching = Blur.objects.filter(stream_id=stream_id, started__lt=end, ended__gt=start)
    for one in touching.exclude(why=Blur.Why.SHARED):
        if one.started < start:
            Blur.objects.create(
                stream_id=stream_id,
                why=one.why,
                started=one.started,
                ended=start,
                most=one.most,
                compared=one.compared,
            )
        if one.ended > end:
            Blur.objects.filter(pk=one.pk).update(started=end)
        else:
            one.delete()
    if touching.filter(why=Blur.Why.SHARED).exists():
        of_sessions(stream_id, started_ms, ended_ms, now_ms=now_ms)


def of_sessions(stream_id: int, started_ms: int, ended_ms: int, *, now_ms: int) -> None:
    """Derives anew, day by day, where sessions that count come from an address that several share.

    Of days whose sessions are no longer kept, what was found stays.
    """
    settings = conf.get()
    started_ms = max(started_ms, sessions_known_from_ms(now_ms))
    counted = Session.objects.filter(stream_id=stream_id, exclusion="")
    known = Blur.objects.filter(stream_id=stream_id, why=Blur.Why.SHARED)
    days = calendar.broadcast_days(settings.zone, started_ms, ended_ms, starts=settings.broadcast_day_start)
    for day_ms, next_ms in zip(days.starts_ms.tolist(), days.ends_ms.tolist(), strict=True):
        of_day = counted.touching(day_ms, next_ms)
        told = of_day.filter(rule=SHARED_ADDRESS).aggregate(count=Count("pk"), first=Min("started"), last=Max("ended"))
        known.filter(started__gte=from_ms(day_ms), started__lt=from_ms(next_ms)).delete()
        if told["count"]:
            Blur.objects.create(
                stream_id=stream_id,
                why=Blur.Why.SHARED,
                started=max(told["first"], from_ms(day_ms)),
                ended=min(told["last"], from_ms(next_ms)),
                most=told["count"],
                compared=of_day.count(),
            )


# Stretches -----------------------------------------------------------------------------------------


def _found(
    stream_id: int, why: Blur.Why, most: int | None, compared: int | None, *, since_ms: int, now_ms: int
) -> None:
    """Prolongs the stretch of which this was found last, or begins one."""
    now, own = from_ms(now_ms), Blur.objects.filter(stream_id=stream_id, why=why)
    lately = Q(is_open=True, ended__gte=from_ms(now_ms - LAPSE_MS)) | Q(ended__gte=from_ms(now_ms - WINDOW_MS))
    last = (
        own.filter(lately, started__lte=now).order_by("-is_open", "-ended", "-pk").values_list("pk", flat=True).first()
    )
    told = {"ended": now, "most": most, "compared": compared, "is_open": True}
    try:
        with transaction.atomic():
            lease.ensure()
            own.filter(is_open=True).exclude(pk=last).update(is_open=False)
            if last is None or not own.filter(pk=last).update(**told):
                Blur.objects.create(stream_id=stream_id, why=why, started=from_ms(min(since_ms, now_ms)), **told)
    except IntegrityError:  # another process found the same at this moment
        log.debug("A stretch of stream %d was noted by another process.", stream_id)


def _well(stream_id: int, why: Blur.Why) -> None:
    Blur.objects.filter(stream_id=stream_id, why=why, is_open=True).update(is_open=False)
