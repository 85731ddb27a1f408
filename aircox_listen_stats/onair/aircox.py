"""The one place that knows aircox: its models, its versions 0.9 and 1.x, and where its Monitor lives.

Nothing of aircox is imported with this module, only when a method needs it.
Queries use fields that both versions have, with aware bounds, and none of
aircox's own managers: their day filters are naive and their "now" is closed
at both ends.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from ..errors import AircoxMissing
from ..fields import from_ms, to_ms
from .base import (
    DiffusionKind,
    DiffusionRow,
    LogKind,
    LogRow,
    OnAirLog,
    ProgramRef,
    Records,
    SoundRow,
    StationRef,
    TrackRow,
    item_of,
)

__all__ = ["AircoxLog", "is_live", "log"]

APP = "aircox"
MONITOR_MODULE = "aircox_streamer.controllers.monitor"
"""Where 1.x keeps its Monitor."""
STREAMER_COMMAND = "aircox_streamer.management.commands.streamer"
"""Where 0.9 keeps its Monitor. Importing it puts the thread into UTC, so only the streamer may."""

LOG_KINDS = {0: LogKind.STOP, 1: LogKind.START, 2: LogKind.CANCEL, 3: LogKind.ON_AIR, 4: LogKind.OTHER}
"""Log.TYPE_STOP to TYPE_OTHER: the same numbers in 0.9 and 1.0."""
DIFFUSION_KINDS = {0: DiffusionKind.ON_AIR, 1: DiffusionKind.UNCONFIRMED, 2: DiffusionKind.CANCELLED}
"""Diffusion.TYPE_ON_AIR, TYPE_UNCONFIRMED, TYPE_CANCEL."""
SOUND_TYPE_ARCHIVE = 1
"""Sound.TYPE_ARCHIVE: what the Monitor pushes for a diffusion."""

URI = re.compile(r"/|[a-z][a-z0-9+.-]*:(?!.* -- )")
"""How a Log comment that names a file begins. A deleted track leaves "artist -- title -- position" instead."""


@cache
def log() -> AircoxLog:
    """The books of the aircox that is installed beside this app."""
    return AircoxLog()


def is_live(diffusion: Any) -> bool:
    """aircox's own word on whether a diffusion has no archive to play: a method in 0.9, a property later."""
    word = diffusion.is_live
    return bool(word() if callable(word) else word)


class AircoxLog(OnAirLog):
    """aircox's tables, read with the plain ORM."""

    def stations(self) -> Sequence[StationRef]:
        return [
            StationRef(
                id=row.pk,
                slug=row.slug,
                name=row.name,
                is_default=bool(getattr(row, "default", False)),
                is_active=bool(getattr(row, "active", True)),
                hosts=tuple((getattr(row, "hosts", None) or "").split()),
            )
            for row in _model("Station")._default_manager.order_by("pk")
        ]

    def records(self, station_id: int, start_ms: int, end_ms: int, *, sound_ids: Iterable[int] = ()) -> Records:
        logs = _logs(station_id, start_ms, end_ms)
        planned = _model("Diffusion")._default_manager.filter(
            program__station_id=station_id, start__lt=from_ms(end_ms), end__gt=from_ms(start_ms)
        )
        diffusions = _diffusions(planned)
        named = {row.sound_id for row in logs if row.sound_id is not None}
        pushed = {sound for diffusion in diffusions for sound in diffusion.archive_ids}
        tracks = {row.track_id for row in logs if row.track_id is not None}
        sounds = named | pushed | set(sound_ids)
        return Records(
            station_id=station_id,
            logs=logs,
            diffusions=diffusions,
            sounds=_sounds(sounds),
            tracks=_tracks(sounds, tracks),
        )

    def diffusions(self, ids: Iterable[int]) -> Sequence[DiffusionRow]:
        return _diffusions(_model("Diffusion")._default_manager.filter(pk__in=list(ids)))

    def station_id_of(self, program_id: int) -> int | None:
        return _model("Program")._default_manager.filter(pk=program_id).values_list("station_id", flat=True).first()

    def programs(self, station_id: int | None = None) -> Sequence[ProgramRef]:
        rows = _model("Program")._default_manager.order_by("title", "pk")
        if station_id is not None:
            rows = rows.filter(station_id=station_id)
        return [_program(row) for row in rows]

    def program(self, program_id: int) -> ProgramRef | None:
        row = _model("Program")._default_manager.filter(pk=program_id).first()
        return None if row is None else _program(row)

    def sound_id_of(self, uri: str) -> int | None:
        sound = _model("Sound")
        manager: Any = sound._default_manager
        found = manager.filter(path=uri) if _has(sound, "path") else manager.path(uri)
        return found.order_by("pk").values_list("pk", flat=True).first()

    def sounds(self, ids: Iterable[int]) -> Mapping[int, SoundRow]:
        return _sounds(ids)

    def monitor_class(self) -> type | None:
        try:
            return import_module(MONITOR_MODULE).Monitor
        except (ImportError, AttributeError):
            pass
        if STREAMER_COMMAND not in sys.modules and "streamer" not in sys.argv[1:2]:
            return None
        try:
            return import_module(STREAMER_COMMAND).Monitor
        except (ImportError, AttributeError):
            return None


def _model(name: str) -> type[models.Model]:
    try:
        return apps.get_model(APP, name)
    except LookupError:
        raise AircoxMissing(
            f"aircox's model {name!r} is not installed. Put 'aircox.apps.AircoxConfig' into INSTALLED_APPS."
        ) from None


@cache
def _has(model: type[models.Model], field: str) -> bool:
    try:
        model._meta.get_field(field)
    except FieldDoesNotExist:
        return False
    return True


def _logs(station_id: int, start_ms: int, end_ms: int) -> list[LogRow]:
    rows = _model("Log")._default_manager.filter(
        station_id=station_id, date__gte=from_ms(start_ms), date__lt=from_ms(end_ms)
    )
    fields = ("pk", "type", "date", "source", "comment", "sound_id", "track_id", "diffusion_id")
    return [
        LogRow(
            id=pk,
            kind=LOG_KINDS.get(kind, LogKind.OTHER),
            at_ms=to_ms(date),
            source=source or "",
            item=_item(kind, comment, track),
            sound_id=sound,
            track_id=track,
            diffusion_id=diffusion,
        )
        for pk, kind, date, source, comment, sound, track, diffusion in rows.values_list(*fields)
    ]


def _item(kind: int, comment: str | None, track_id: int | None) -> str:
    names_a_file = LOG_KINDS.get(kind) is LogKind.ON_AIR and track_id is None and URI.match(comment or "")
    return item_of(comment or "") if names_a_file else ""


def _diffusions(rows: models.QuerySet) -> list[DiffusionRow]:
    initial = ("initial_id",) if _has(rows.model, "initial") else ()
    fields = ("pk", "type", "start", "end", "program_id", "program__title", "episode_id", "episode__title", *initial)
    found = list(rows.values_list(*fields))
    archives = _archives({row[6] for row in found if row[6] is not None})
    return [
        DiffusionRow(
            id=row[0],
            kind=DIFFUSION_KINDS.get(row[1], DiffusionKind.UNCONFIRMED),
            start_ms=to_ms(row[2]),
            end_ms=to_ms(row[3]),
            program_id=row[4],
            program_title=row[5] or "",
            episode_id=row[6],
            title=row[7] or "",
            initial_id=row[8] if initial else None,
            archive_ids=archives.get(row[6], ()),
        )
        for row in found
    ]


def _archives(episode_ids: set[int]) -> Mapping[int, tuple[int, ...]]:
    """Per episode the sounds that make it not live, in the order in which they are pushed: by their file."""
    sound = _model("Sound")
    if _has(sound, "episode"):
        rows = sound._default_manager.filter(episode_id__in=episode_ids)
        if _has(sound, "type"):
            rows = rows.filter(type=SOUND_TYPE_ARCHIVE)
        pairs = rows.order_by("path" if _has(sound, "path") else "file").values_list("episode_id", "pk")
    else:
        # Later 1.x: an episode's sounds are in a table between, with a flag for those to broadcast.
        between = _model("EpisodeSound")
        rows = between._default_manager.filter(episode_id__in=episode_ids)
        if _has(between, "broadcast"):
            rows = rows.filter(broadcast=True)
        pairs = rows.order_by("position", "pk").values_list("episode_id", "sound_id")
    archives: dict[int, list[int]] = defaultdict(list)
    for episode_id, sound_id in pairs:
        archives[episode_id].append(sound_id)
    return {episode_id: tuple(sounds) for episode_id, sounds in archives.items()}


def _sounds(ids: Iterable[int]) -> dict[int, SoundRow]:
    ids = list(ids)
    sound = _model("Sound")
    direct = _has(sound, "episode")
    fields = ("pk", "name", "program_id", "program__title", "duration", *(("episode_id",) if direct else ()))
    episodes: dict[int, list[int]] = defaultdict(list)
    if not direct:
        links = _model("EpisodeSound")._default_manager.filter(sound_id__in=ids).order_by("pk")
        for sound_id, episode_id in links.values_list("sound_id", "episode_id"):
            episodes[sound_id].append(episode_id)
    found = {}
    for row in sound._default_manager.filter(pk__in=ids).values_list(*fields):
        own = ((row[5],) if row[5] is not None else ()) if direct else tuple(episodes[row[0]])
        found[row[0]] = SoundRow(
            id=row[0],
            title=row[1] or "",
            program_id=row[2],
            program_title=row[3] or "",
            duration_ms=_milliseconds(row[4]),
            episode_ids=own,
        )
    return found


def _milliseconds(duration: dt.time | dt.timedelta | None) -> int | None:
    """A sound's length: aircox keeps it as a time of day. None, and 0, mean that it is not known."""
    if isinstance(duration, dt.time):
        duration = dt.timedelta(
            hours=duration.hour, minutes=duration.minute, seconds=duration.second, microseconds=duration.microsecond
        )
    return (duration // dt.timedelta(milliseconds=1) or None) if duration else None


def _tracks(sound_ids: Iterable[int], track_ids: Iterable[int]) -> list[TrackRow]:
    rows = _model("Track")._default_manager.filter(
        models.Q(sound_id__in=list(sound_ids)) | models.Q(pk__in=list(track_ids))
    )
    fields = ("pk", "sound_id", "position", "timestamp", "title", "artist")
    return [
        TrackRow(
            id=pk,
            sound_id=sound_id,
            position=position or 0,
            offset_ms=None if timestamp is None else timestamp * 1000,
            title=title or "",
            artist=artist or "",
        )
        for pk, sound_id, position, timestamp, title, artist in rows.values_list(*fields)
    ]


def _program(row: Any) -> ProgramRef:
    return ProgramRef(
        id=row.pk,
        title=row.title,
        slug=row.slug,
        station_id=row.station_id,
        url=_address(row),
        active=bool(getattr(row, "active", True)),
        editors_group_id=getattr(row, "editors_group_id", None),
    )


def _address(row: Any) -> str:
    """Where the program's page is, '' when it has none: an unpublished one answers '#'."""
    try:
        address = row.get_absolute_url()
    except Exception:  # noqa: BLE001  # a page that cannot be reached must not take ours down
        return ""
    return "" if address in (None, "#") else str(address)
