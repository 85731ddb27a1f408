"""What the sources of a station are like: how late they tell, and whether they know who is there now."""

from __future__ import annotations

from collections.abc import Iterable

from .. import conf
from ..models import Stream
from ..sources import registry
from ..sources.base import Source

HOUR_MS = 3600 * 1000
MS = 1000

_known: tuple[conf.Settings, dict[str, tuple[int, bool]]] | None = None


def late_ms(streams: Iterable[Stream]) -> int:
    """The late window of a station with these streams: what the settings say, else its slowest source's."""
    settings = conf.get()
    if settings.settle_after_hours is not None:
        return round(settings.settle_after_hours * HOUR_MS)
    known = _by_source(settings)
    seconds = (known[stream.source][0] for stream in streams if stream.active and stream.source in known)
    return MS * max(seconds, default=Source.late_seconds)


def follows_open_sessions(source: str) -> bool:
    """Does the source know of a listener before that listener leaves?"""
    return _by_source(conf.get()).get(source, (0, Source.follows_open_sessions))[1]


def _by_source(settings: conf.Settings) -> dict[str, tuple[int, bool]]:
    """Of each source, its late seconds and whether it follows open sessions; per settings once."""
    global _known
    if _known is None or _known[0] is not settings:
        built = registry.build(settings)
        _known = settings, {name: (source.late_seconds, source.follows_open_sessions) for name, source in built.items()}
        for source in built.values():
            source.close()
    return _known[1]
