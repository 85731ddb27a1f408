"""A station whose live figures a test publishes, as the collector would."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from aircox.models import Station
from channels.layers import get_channel_layer

from aircox_listen_stats.models import LiveState
from aircox_listen_stats.web import frames

STALE_MS = 60_000
PROGRAM_MS = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStation:
    """The row of a station, and what is said about it."""

    id: int
    slug: str
    since_ms: int
    """When the program on air began."""

    def payload(
        self,
        listeners: int | None,
        *,
        at_ms: int | None = None,
        stale_after_ms: int = STALE_MS,
        includes_totals: bool = False,
    ) -> dict:
        """What LiveState keeps."""
        at_ms = now_ms() if at_ms is None else at_ms
        on_air = {
            "title": "Morgenröte",
            "program": "Frühschicht",
            "program_id": 3,
            "diffusion_id": 31,
            "started": frames.to_text(self.since_ms),
            "ends": frames.to_text(self.since_ms + PROGRAM_MS),
            "live": True,
            "track": {"title": "Étude", "artist": "Ensemble"},
        }
        public = {
            "v": 1,
            "station": self.slug,
            "at": frames.to_text(at_ms),
            "listeners": listeners,
            "includes_totals": includes_totals,
            "on_air": on_air,
        }
        stream = {"stream": "main", "title": "Main", "listeners": listeners, "at": frames.to_text(at_ms)}
        staff = {**public, "streams": [stream], "countries": [["BE", listeners]], "apps": [["VLC", listeners]]}
        return {"public": public, "staff": staff, "at_ms": at_ms, "stale_after_ms": stale_after_ms}

    def store(self, listeners: int | None, **kwargs: Any) -> None:
        """Writes LiveState, as a collector whose channel layer reaches nobody."""
        payload = self.payload(listeners, **kwargs)
        LiveState.objects.update_or_create(station_id=self.id, defaults={"published": now_ms(), "payload": payload})

    def message(self, listeners: int | None, **kwargs: Any) -> dict[str, Any]:
        """The channel-layer message."""
        payload = self.payload(listeners, **kwargs)
        return {
            **payload,
            "type": "live.frame",
            "public": json.dumps(payload["public"]),
            "staff": json.dumps(payload["staff"]),
        }

    async def send(self, listeners: int | None, **kwargs: Any) -> None:
        """Sends through the channel layer only."""
        await get_channel_layer().group_send(frames.group_name(self.id), self.message(listeners, **kwargs))


def create(slug: str = "campus") -> LiveStation:
    """A station in aircox's table."""
    station = Station.objects.create(name="Radio Campus", slug=slug)
    return LiveStation(id=station.pk, slug=slug, since_ms=now_ms())


def now_ms() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
