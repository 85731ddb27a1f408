"""What the app wants to know from a station's playout system, and in which words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.crypto import salted_hmac

from ..kernel.airlog import (
    DiffusionKind,
    DiffusionRow,
    LogKind,
    LogRow,
    OnAirSpan,
    Records,
    SoundRow,
    TrackRow,
    WatchSpan,
)

__all__ = [
    "DiffusionKind",
    "DiffusionRow",
    "LogKind",
    "LogRow",
    "OnAirLog",
    "OnAirSpan",
    "ProgramRef",
    "Records",
    "SoundRow",
    "StationRef",
    "TrackRow",
    "WatchSpan",
    "item_of",
]

ITEM_LENGTH = 32
"""Hexadecimal digits that name a file: 128 bits, more than any station has files for."""


def item_of(uri: str) -> str:
    """The name under which a file is known here: a keyed hash, from which no path comes back.

    The key is Django's SECRET_KEY, so that a list of likely paths does not help either.
    """
    return salted_hmac("aircox_listen_stats.onair.item", uri, algorithm="sha256").hexdigest()[:ITEM_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRef:
    """A station. `hosts` are the host names of its site, as they were typed."""

    id: int
    slug: str
    name: str
    is_default: bool = False
    is_active: bool = True
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRef:
    """A program. `editors_group_id` is None where aircox knows no editors."""

    id: int
    title: str
    slug: str
    station_id: int
    url: str = ""
    active: bool = True
    editors_group_id: int | None = None


class OnAirLog(ABC):
    """A station's own books: its stations, programs, and what it says was on air."""

    @abstractmethod
    def stations(self) -> Sequence[StationRef]:
        """All stations, by id."""

    def station(self, slug_or_id: str | int) -> StationRef | None:
        """The station of that slug or id, None when there is none."""
        wanted = str(slug_or_id)
        stations = self.stations()
        by_slug = next((station for station in stations if station.slug == wanted), None)
        return by_slug or next((station for station in stations if str(station.id) == wanted), None)

    def default_station(self, host: str | None = None) -> StationRef | None:
        """The station that answers on `host`, else the default one, else the oldest; None without any.

        A host matches when a station's hosts contain it: aircox's own rule.
        """
        stations = self.stations()
        if host:
            named = next((one for one in stations if any(host in listed for listed in one.hosts)), None)
            if named is not None:
                return named
        return next((one for one in stations if one.is_default), stations[0] if stations else None)

    @abstractmethod
    def records(self, station_id: int, start_ms: int, end_ms: int, *, sound_ids: Iterable[int] = ()) -> Records:
        """Log rows dated in `[start_ms, end_ms)`, diffusions that touch it, and their sounds and tracks.

        `sound_ids` are more sounds to tell about: those that were seen on air and never logged.
        """

    @abstractmethod
    def diffusions(self, ids: Iterable[int]) -> Sequence[DiffusionRow]:
        """Those of these diffusions that still exist, wherever they are planned now."""

    @abstractmethod
    def station_id_of(self, program_id: int) -> int | None:
        """The station of a program, None when the program is gone."""

    @abstractmethod
    def programs(self, station_id: int | None = None) -> Sequence[ProgramRef]:
        """The programs of a station, or all, by title."""

    @abstractmethod
    def program(self, program_id: int) -> ProgramRef | None:
        """The program, None when it is gone."""

    @abstractmethod
    def sound_id_of(self, uri: str) -> int | None:
        """The sound of an absolute file path, None for an unknown file."""

    @abstractmethod
    def sounds(self, ids: Iterable[int]) -> Mapping[int, SoundRow]:
        """Those of these sounds that still exist, by id."""

    @abstractmethod
    def monitor_class(self) -> type | None:
        """The class whose `monitor()` is the playout loop's tick; None where this process has none."""
