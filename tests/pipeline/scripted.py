"""A source that tells a script, a report at a time, and a playout log that knows one station."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aircox_listen_stats.errors import SourceUnavailable
from aircox_listen_stats.onair.base import ProgramRef, StationRef
from aircox_listen_stats.sources.base import PullSource, Report


class ScriptedSource(PullSource):
    """Tells the next report of ``script`` at each pull; the cursor counts. An exception in it is raised."""

    interval_seconds = 0.01

    def __init__(self, name: str, script: Sequence[Report | Exception]) -> None:
        super().__init__(name, {"/live.mp3": "live"}, {})
        self.script = list(script)
        self.pulled = 0

    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        self.pulled += 1
        told = int(cursor.get("told", 0))
        if told >= len(self.script):
            return Report(source=self.name, cursor={"told": told})
        report = self.script[told]
        if isinstance(report, Exception):
            self.script.pop(told)
            raise report
        return replace(report, source=self.name, cursor={"told": told + 1}, more=told + 1 < len(self.script))

    @property
    def gone(self) -> SourceUnavailable:
        return SourceUnavailable(f"Source {self.name!r}: Icecast does not answer (ConnectError).")


class OneStation:
    """As much of an OnAirLog as the collector asks."""

    def stations(self) -> Sequence[StationRef]:
        return [StationRef(id=1, slug="campus", name="Campus", is_default=True)]

    def station(self, slug_or_id: str | int) -> StationRef | None:
        return self.stations()[0] if str(slug_or_id) in ("1", "campus") else None

    def default_station(self, host: str | None = None) -> StationRef | None:
        return self.stations()[0]

    def programs(self, station_id: int | None = None) -> Sequence[ProgramRef]:
        return []
