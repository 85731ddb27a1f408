"""The streams of the settings as rows, and which station each belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .. import conf
from ..models import Stream
from ..onair.base import OnAirLog
from ..querysets import NO_STATION

MS = 1000


def sync(station_of: Callable[[str, conf.StreamSettings], int | None]) -> dict[str, Stream]:
    """The active streams by slug, the rows brought in line with STREAMS.

    ``station_of(slug, entry)`` gives the station's id, or None where no
    station is found: such a stream is left out (and a check tells it). Rows
    that the settings no longer name become inactive and keep their sessions.
    A stream that is only compared belongs to NO_STATION. One that counted does
    not become such a one, nor the other way round: it is left out (and the
    doctor tells it), else the same listening would be gone, or count twice.
    """
    known = by_slug()
    found: dict[str, Stream] = {}
    for slug, entry in conf.get().streams.items():
        station_id = NO_STATION if entry.beside else station_of(slug, entry)
        if station_id is None or is_other_kind(known.get(slug), entry):
            continue
        columns = {
            "station_id": station_id,
            "title": entry.title,
            "source": entry.source,
            "delay_ms": round(entry.delay_seconds * MS),
            "active": True,
        }
        stream = known.get(slug)
        if stream is None:
            stream = Stream.objects.create(slug=slug, **columns)
        elif any(getattr(stream, name) != value for name, value in columns.items()):
            Stream.objects.filter(pk=stream.pk).update(**columns)
            stream.refresh_from_db()
        found[slug] = stream
    Stream.objects.exclude(slug__in=found).filter(active=True).update(active=False)
    return found


def is_other_kind(stream: Stream | None, entry: conf.StreamSettings) -> bool:
    """Did the stream count, which now is only to be compared, or the other way round?"""
    return stream is not None and (stream.station_id == NO_STATION) != bool(entry.beside)


def station_by(onair: OnAirLog) -> Callable[[str, conf.StreamSettings], int | None]:
    """Which station a stream of the settings belongs to, by what the playout system says."""

    def station_of(slug: str, entry: conf.StreamSettings) -> int | None:
        if entry.station is None:
            default = onair.default_station()
            return default.id if default else None
        found = onair.station(entry.station)
        if found is None and isinstance(entry.station, int):
            return entry.station  # aircox may have lost the station, its figures are not lost
        return found.id if found else None

    return station_of


def by_slug() -> Mapping[str, Stream]:
    """Every stream that ever was, by slug."""
    return {stream.slug: stream for stream in Stream.objects.all()}
