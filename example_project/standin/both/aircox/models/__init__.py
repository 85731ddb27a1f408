"""aircox's tables, importable from one place."""

from aircox.models.episode import Diffusion, DiffusionQuerySet, Episode
from aircox.models.log import Log, LogQuerySet
from aircox.models.page import Page, PageQuerySet
from aircox.models.program import Program, ProgramQuerySet, Schedule, Stream
from aircox.models.sound import Sound, SoundQuerySet, Track
from aircox.models.station import Port, PortQuerySet, Station, StationQuerySet

__all__ = [
    "Diffusion",
    "DiffusionQuerySet",
    "Episode",
    "Log",
    "LogQuerySet",
    "Page",
    "PageQuerySet",
    "Port",
    "PortQuerySet",
    "Program",
    "ProgramQuerySet",
    "Schedule",
    "Sound",
    "SoundQuerySet",
    "Station",
    "StationQuerySet",
    "Stream",
    "Track",
]
