"""What the sources of a station are like: how late they tell, and whether they know who is there now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .. import conf
from ..models import Stream
from ..sources import registry
from ..sources.base import PushSource, Source
from .inbox import HEARS_ARRIVALS

HOUR_MS = 3600 * 1000
MS = 1000


class _Manner(NamedTuple):
    late_seconds: int
    follows_open_sessions: bool
    only_told: bool


_known: tuple[conf.Settings, dict[str, _Manner]] | None = None


def late_ms(streams: Iterable[Stream]) -> int:
    """The late window of a station with these streams: what the settings say, else its slowest source's."""
    settings = conf.get()
    if settings.settle_after_hours is not None:
        return round(settings.settle_after_hours * HOUR_MS)
    known = _by_source(settings)
    seconds = (known[stream.source].late_seconds for stream in streams if stream.active and stream.source in known)
    return MS * max(seconds, default=Source.late_seconds)


def knows_who_is_there(source: str, cursor: Mapping[str, Any]) -> bool:
    """Does the source, which stands at ``cursor``, know of a listener before that listener leaves?"""
    manner = _by_source(conf.get()).get(source)
    if manner is None or not manner.follows_open_sessions:
        return False
    return not manner.only_told or bool(cursor.get(HEARS_ARRIVALS))


def _by_source(settings: conf.Settings) -> dict[str, _Manner]:
    """What each source is like; asked once for each settings."""
    global _known
    if _known is None or _known[0] is not settings:
        built = registry.build(settings)
        _known = (
            settings,
            {
                name: _Manner(source.late_seconds, source.follows_open_sessions, isinstance(source, PushSource))
                for name, source in built.items()
            },
        )
        for source in built.values():
            source.close()
    return _known[1]
