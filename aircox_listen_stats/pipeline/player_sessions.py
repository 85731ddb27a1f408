"""Sessions in the web player: what the pages that one listener opened in one broadcast day make together.

Pages of two days are never one session, as they are none under a secret that
changes each day. So what is new of a page concerns the pages of its own day
and no others, and a day whose pages have all gone silent can be forgotten
whole. Of each page its row says when it played: its events are not read for
the sake of another page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, QuerySet

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar, player
from ..kernel.rulings import Rulings
from ..kernel.sessionize import TWIN_MS
from ..kernel.types import MS, ListenerMark
from ..models import PlayerSession, PlayerVisit
from . import player_labels

__all__ = ["MOST_PAGES", "Household", "Page", "Stretch", "day_of", "made_of", "opened_on", "store", "who"]

MOST_PAGES = 500
"""More that one listener opens in a day are a crowd's behind one address, with the same browser: nobody can say which
of its pages follow each other, and each makes its sessions alone."""

AT_ONCE = 1_000
"""Listeners of one query."""

Household = tuple[int, int]
"""A listener, and the start of a broadcast day in which that one opened pages."""

Stretch = tuple[int, int, bool]
"""From when to when a page played, and whether that was live."""

_FIELDS = tuple(field.attname for field in PlayerSession._meta.concrete_fields if not field.primary_key)
"""All that a session says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What sessions need of one page. Where it ``plays`` still, its last stretch has no end yet."""

    visit: int
    opened_ms: int
    mark: ListenerMark
    stretches: tuple[Stretch, ...]
    plays: bool

    @property
    def household(self) -> Household:
        return self.mark.listener, day_of(self.opened_ms)

    @property
    def hull(self) -> tuple[int, int]:
        return self.stretches[0][0], self.stretches[-1][1]


def day_of(opened_ms: int) -> int:
    """When the broadcast day of a page that was opened then began."""
    settings = conf.get()
    return calendar.broadcast_day_start(opened_ms, settings.zone, settings.broadcast_day_start)


def opened_on(day_ms: int) -> QuerySet[PlayerVisit]:
    """The pages that were opened in the broadcast day that begins then."""
    settings = conf.get()
    days = calendar.broadcast_days(settings.zone, day_ms, day_ms + 1, starts=settings.broadcast_day_start)
    return PlayerVisit.objects.filter(started__gte=from_ms(day_ms), started__lt=from_ms(int(days.ends_ms[0])))


def who(mark: ListenerMark, standing: Rulings, started_ms: int, ended_ms: int) -> dict[str, Any]:
    """The fields of a row that say who it was, with the label that rulings give to what was told in that time."""
    told = (str(mark.exclusion), mark.rule)
    label = player_labels.label(
        standing, listener=mark.listener, app=mark.app, told=told, started_ms=started_ms, ended_ms=ended_ms
    )
    return {"listener": mark.listener, "country": mark.country, "app": mark.app, **label}


def made_of(pages: Collection[Page], standing: Rulings) -> list[PlayerSession]:
    """The sessions of one household, of which ``pages`` are all."""
    if len(pages) > MOST_PAGES:
        return _apart(pages, standing)
    return _together(pages, standing, visit=None)


def store(households: Collection[Household], due: Collection[int], standing: Rulings) -> None:
    """Brings the sessions of the households in line with their pages, of which those ``due`` are others than before."""
    by_day: dict[int, list[int]] = defaultdict(list)
    for listener, day_ms in households:
        by_day[day_ms].append(listener)
    for day_ms, listeners in sorted(by_day.items()):
        for first in range(0, len(listeners), AT_ONCE):
            some = listeners[first : first + AT_ONCE]
            crowds = _crowds(day_ms, some)
            _store_households(day_ms, [one for one in some if one not in crowds], standing)
            for listener in crowds:
                _store_crowd(day_ms, listener, due, standing)


# Making --------------------------------------------------------------------------------------------


def _apart(pages: Iterable[Page], standing: Rulings) -> list[PlayerSession]:
    return [session for page in pages for session in _together([page], standing, visit=page.visit)]


def _together(pages: Iterable[Page], standing: Rulings, *, visit: int | None) -> list[PlayerSession]:
    """Pages that were loaded one after the other are one device."""
    playing = sorted((page for page in pages if page.stretches), key=lambda page: (page.hull, page.visit))
    if not playing:
        return []
    devices = player.devices([page.hull for page in playing], overlap_ms=TWIN_MS)
    marks: dict[int, ListenerMark] = {}
    open_since: dict[int, int] = {}
    listening = []
    for page, device in zip(playing, devices, strict=True):
        marks.setdefault(device, page.mark)
        if page.plays:
            open_since[device] = page.stretches[-1][0]
        listening += [
            player.Listening(
                listener=page.mark.listener, device=device, started_ms=start_ms, ended_ms=end_ms, is_live=is_live
            )
            for start_ms, end_ms, is_live in page.stretches
        ]
    day = from_ms(day_of(playing[0].opened_ms))
    return [
        PlayerSession(
            day=day,
            visit=visit,
            started=from_ms(one.started_ms),
            ended=from_ms(one.ended_ms),
            live_ms=one.live_ms,
            on_demand_ms=one.on_demand_ms,
            played_ms=one.played_ms,
            is_open=one.started_ms <= open_since.get(one.device, -1) <= one.ended_ms,
            **who(marks[one.device], standing, one.started_ms, one.ended_ms),
        )
        for one in player.visit_sessions(listening, gap_ms=conf.get().rules().gap_seconds * MS)
    ]


# Storing -------------------------------------------------------------------------------------------


def _crowds(day_ms: int, listeners: Collection[int]) -> set[int]:
    pages = opened_on(day_ms).filter(listener__in=listeners).order_by().values_list("listener")
    return {listener for listener, count in pages.annotate(pages=Count("visit")) if count > MOST_PAGES}


def _store_households(day_ms: int, listeners: Collection[int], standing: Rulings) -> None:
    if not listeners:
        return
    by_listener: dict[int, list[Page]] = defaultdict(list)
    for page in _read(opened_on(day_ms).filter(listener__in=listeners)):
        by_listener[page.mark.listener].append(page)
    made = [session for pages in by_listener.values() for session in _together(pages, standing, visit=None)]
    _replace(_stored(day_ms).filter(listener__in=listeners), made)


def _store_crowd(day_ms: int, listener: int, due: Collection[int], standing: Rulings) -> None:
    pages = opened_on(day_ms).filter(listener=listener)
    stored = _stored(day_ms).filter(listener=listener)
    if not stored.filter(visit=None).exists():
        # Else it has only now become a crowd: its pages were together, and part.
        pages, stored = pages.filter(visit__in=due), stored.filter(visit__in=due)
    _replace(stored, _apart(_read(pages), standing))


def _stored(day_ms: int) -> QuerySet[PlayerSession]:
    return PlayerSession.objects.filter(day=from_ms(day_ms), started__gte=from_ms(day_ms))


def _read(pages: QuerySet[PlayerVisit]) -> Iterator[Page]:
    columns = ("visit", "started", "stretches", "is_open", "listener", "country", "app")
    labels = ("exclusion", "rule", "told_exclusion", "told_rule")
    for visit, started, stretches, is_open, listener, country, app, *label in pages.values_list(*columns, *labels):
        exclusion, rule = player_labels.told_label(*label)
        yield Page(
            visit=visit,
            opened_ms=to_ms(started),
            mark=ListenerMark(listener=listener, country=country, app=app, exclusion=exclusion, rule=rule),
            stretches=tuple((start_ms, end_ms, is_live) for start_ms, end_ms, is_live in stretches),
            plays=is_open,
        )


def _replace(stored: QuerySet[PlayerSession], made: Sequence[PlayerSession]) -> None:
    """Writes what differs and nothing else."""
    known: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for pk, *values in stored.values_list("pk", *_FIELDS):
        known[tuple(values)].append(pk)
    fresh = []
    for session in made:
        same = known.get(tuple(getattr(session, name) for name in _FIELDS))
        if same:
            same.pop()
        else:
            fresh.append(session)
    gone = [pk for some in known.values() for pk in some]
    for first in range(0, len(gone), AT_ONCE):
        PlayerSession.objects.filter(pk__in=gone[first : first + AT_ONCE]).delete()
    PlayerSession.objects.bulk_create(fresh, batch_size=AT_ONCE)
