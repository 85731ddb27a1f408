"""What a station's books tell about its air: the records that the timeline is built from.

Ids are aircox's. No record holds a file's path: a file is named by its sound,
or by a keyed hash (`item`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "DiffusionKind",
    "DiffusionRow",
    "LogKind",
    "LogRow",
    "OnAirSpan",
    "Records",
    "SoundRow",
    "TrackRow",
    "WatchSpan",
]


class LogKind(StrEnum):
    """What a row of aircox's Log says. Only the first three are ever written by the Monitor."""

    ON_AIR = "on_air"
    START = "start"
    CANCEL = "cancel"
    STOP = "stop"
    OTHER = "other"


class DiffusionKind(StrEnum):
    """What a diffusion is meant for."""

    ON_AIR = "on_air"
    UNCONFIRMED = "unconfirmed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One row of aircox's Log. `item` names the file of a sound row, '' where there is none."""

    id: int
    kind: LogKind
    at_ms: int
    source: str = ""
    item: str = ""
    sound_id: int | None = None
    track_id: int | None = None
    diffusion_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionRow:
    """A diffusion as it is planned now. `archive_ids` are the sounds that the Monitor would push, in order."""

    id: int
    kind: DiffusionKind
    start_ms: int
    end_ms: int
    program_id: int | None = None
    program_title: str = ""
    episode_id: int | None = None
    title: str = ""
    initial_id: int | None = None
    archive_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundRow:
    """A sound file. `duration_ms` is None until aircox has read the file."""

    id: int
    title: str = ""
    program_id: int | None = None
    program_title: str = ""
    episode_ids: tuple[int, ...] = ()
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackRow:
    """A piece of music. `offset_ms` counts from its sound's start; None where only its position is known."""

    id: int
    sound_id: int | None = None
    position: int = 0
    offset_ms: int | None = None
    title: str = ""
    artist: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAirSpan:
    """What the Monitor hook saw on air from `started_ms` on.

    `seen_ms` is the last tick that showed it; once `ended`, the first tick
    that showed something else, or nothing. `air_time_ms` is Liquidsoap's own
    word, in whole seconds, and may be hours off (LAB: wall time without zone).
    """

    source: str
    item: str
    started_ms: int
    seen_ms: int
    ended: bool
    air_time_ms: int | None = None
    remaining_ms: int | None = None
    sound_id: int | None = None
    title: str = ""
    artist: str = ""
    is_live: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSpan:
    """A stretch in which the Monitor hook saw every tick."""

    started_ms: int
    seen_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All that aircox says about one station and one window, margins included; any order."""

    station_id: int
    logs: Sequence[LogRow] = ()
    diffusions: Sequence[DiffusionRow] = ()
    sounds: Mapping[int, SoundRow] = field(default_factory=dict)
    tracks: Sequence[TrackRow] = ()
