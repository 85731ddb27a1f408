"""Who listens now, told to whoever shows it; unknown is said, never zero.

The count of a station is known only while every stream that can be known live
is: a sum over the streams that happen to answer would be a wrong number, and
nobody could see that it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel.types import Layer
from ..models import Airing, LiveState, Session, SourceState, Stream
from ..onair import aircox
from . import lateness, rows

log = logging.getLogger(__name__)

VERSION = 1
MS = 1000

HEARTBEAT_MS = 10_000
"""Unchanged figures are told again after this long."""

SEND_SECONDS = 2.0
"""What one message to the channel layer may take."""

PAUSE_SECONDS = 5.0
"""After a failed message the channel layer is left alone for so long."""

SHOWN = 20
"""Countries and apps that are listed; the rest is summed up as ''."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFigures:
    """One stream. ``listeners`` is None while its source is silent, or where it cannot be known live.

    ``is_total``: the server's own number of sockets; its source knows nobody
    apart, so that twins, bots and who listens to another stream too are in it.
    """

    slug: str
    title: str
    listeners: int | None
    heard_ms: int | None
    is_total: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigures:
    """One station at ``at_ms``; they hold for ``holds_ms`` unless something newer is told."""

    station_id: int
    station: str
    at_ms: int
    holds_ms: int
    listeners: int | None
    on_air: Mapping[str, Any] | None
    streams: tuple[StreamFigures, ...] = ()
    countries: tuple[tuple[str, int], ...] = ()
    apps: tuple[tuple[str, int], ...] = ()

    @property
    def includes_totals(self) -> bool:
        """Whether some of the listeners are a number of sockets that nobody could tell apart."""
        return self.listeners is not None and any(one.is_total for one in self.streams)

    def public(self) -> dict[str, Any]:
        """What any visitor may see."""
        return {
            "v": VERSION,
            "station": self.station,
            "at": _text(self.at_ms),
            "listeners": self.listeners,
            "includes_totals": self.includes_totals,
            "on_air": None if self.on_air is None else dict(self.on_air),
        }

    def staff(self) -> dict[str, Any]:
        """What the staff sees: the streams, countries and apps too."""
        return {
            **self.public(),
            "streams": [
                {
                    "stream": one.slug,
                    "title": one.title,
                    "listeners": one.listeners,
                    "at": None if one.heard_ms is None else _text(one.heard_ms),
                    "is_total": one.is_total,
                }
                for one in self.streams
            ],
            "countries": [list(pair) for pair in self.countries],
            "apps": [list(pair) for pair in self.apps],
        }


def figures(station_id: int, *, now_ms: int) -> LiveFigures:
    """The live figures of a station, from the sessions that are open now."""
    settings = conf.get()
    stale_ms = round(settings.live.stale_seconds * MS)
    streams = list(Stream.objects.active().of(station_id))
    states = {state.source: state for state in SourceState.objects.filter(pk__in={one.source for one in streams})}
    heard = {name: to_ms(state.heard) for name, state in states.items() if state.heard is not None}
    to_know = [stream for stream in streams if _may_be_known(stream.source, states)]
    totals = _totals(to_know, states)
    known = {
        stream.pk
        for stream in to_know
        if heard.get(stream.source, 0) > now_ms - stale_ms and totals.get(stream.pk, 0) is not None
    }
    is_known = bool(to_know) and len(known) == len(to_know)
    present = _present([stream.pk for stream in to_know if stream.pk not in totals])
    until_ms = min((heard[stream.source] + stale_ms for stream in to_know), default=now_ms) if is_known else 0
    station = aircox.log().station(station_id)
    everybody = {listener: (country, app) for _, listener, country, app in present}
    return LiveFigures(
        station_id=station_id,
        station=station.slug if station else str(station_id),
        at_ms=now_ms,
        holds_ms=until_ms - now_ms if is_known else stale_ms,
        listeners=len(everybody) + sum(one or 0 for one in totals.values()) if is_known else None,
        on_air=_on_air(station_id, now_ms),
        streams=_streams(streams, present, totals, known, heard),
        countries=_ranked(Counter(country for country, _ in everybody.values())) if is_known else (),
        apps=_ranked(Counter(app for _, app in everybody.values())) if is_known else (),
    )


def _may_be_known(source: str, states: Mapping[str, SourceState]) -> bool:
    """False where the source only ever tells of listeners who have left."""
    state = states.get(source)
    return lateness.knows_who_is_there(source, state.cursor if state is not None else {})


def _totals(streams: list[Stream], states: Mapping[str, SourceState]) -> dict[int, int | None]:
    """Of the streams whose source tells totals alone, how many listen; None where it left the stream out."""
    told = {
        name: state.cursor[SourceState.TOTALS] for name, state in states.items() if SourceState.TOTALS in state.cursor
    }
    return {stream.pk: told[stream.source].get(stream.slug) for stream in streams if stream.source in told}


def _present(stream_ids: list[int]) -> list[tuple[int, int, str, str]]:
    return rows.fetch_in(
        f"SELECT stream_id, listener, country, app FROM {rows.table(Session)}"
        " WHERE is_open AND exclusion = '' AND stream_id IN ({values})",
        [],
        stream_ids,
    )


def _streams(
    streams: list[Stream],
    present: list[tuple[int, int, str, str]],
    totals: Mapping[int, int | None],
    known: set[int],
    heard: Mapping[str, int],
) -> tuple[StreamFigures, ...]:
    listeners = {**Counter(stream_id for stream_id, _ in {row[:2] for row in present}), **totals}
    return tuple(
        StreamFigures(
            slug=stream.slug,
            title=str(stream),
            listeners=listeners.get(stream.pk, 0) if stream.pk in known else None,
            heard_ms=heard.get(stream.source),
            is_total=stream.pk in totals,
        )
        for stream in streams
    )


def _ranked(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ranked[SHOWN:])
    return (*ranked[:SHOWN], *([("", rest)] if rest else ()))


def _on_air(station_id: int, now_ms: int) -> dict[str, Any] | None:
    """The diffusion on air with its track, else the sound or track that plays; None for silence."""
    now = from_ms(now_ms)
    running: dict[str, Airing] = {}
    for airing in Airing.objects.filter(
        station_id=station_id, started__lte=now, started__gt=from_ms(now_ms - 24 * 3600 * MS), ended__gt=now
    ).order_by("started", "pk"):
        running[airing.layer] = airing  # of several the one that began last
    track = running.get(Layer.TRACK)
    main = running.get(Layer.DIFFUSION) or running.get(Layer.SOUND) or track
    if main is None:
        return None
    is_diffusion = main.layer == Layer.DIFFUSION
    return {
        "title": main.title,
        "program": main.program_title or None,
        "program_id": main.program_id,
        "diffusion_id": main.diffusion_id,
        "started": _text(to_ms(main.started)),
        "ends": _text(to_ms(main.ended)) if is_diffusion or not main.is_running else None,
        "live": main.is_live,
        "track": {"title": track.title, "artist": track.artist} if track is not None else None,
    }


def _text(ms: int) -> str:
    return from_ms(ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % MS:03d}Z"


# Telling ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Told:
    at_ms: int
    shown: str


@dataclass(slots=True)
class Publisher:
    """Tells the figures of each station when they changed, or after a while; at most so often."""

    sender: Sender = field(default_factory=lambda: Sender())
    told: dict[int, _Told] = field(default_factory=dict)

    def publish(self, station_id: int, *, now_ms: int) -> bool:
        """Was something told? Writes LiveState, and hands the frame to the channel layer's thread."""
        pause_ms = round(conf.get().live.publish_seconds * MS)
        last = self.told.get(station_id)
        if last is not None and 0 <= now_ms - last.at_ms < pause_ms:
            return False
        now = figures(station_id, now_ms=now_ms)
        shown = _shown(now)
        if last is not None and shown == last.shown and 0 <= now_ms - last.at_ms < HEARTBEAT_MS:
            return False
        payload = {
            "public": now.public(),
            "staff": now.staff(),
            "at_ms": now.at_ms,
            "stale_after_ms": now.holds_ms,
        }
        LiveState.objects.bulk_create(
            [LiveState(station_id=station_id, published=from_ms(now_ms), payload=payload)],
            update_conflicts=True,
            update_fields=["published", "payload"],
            unique_fields=["station_id"],
        )
        self.sender.send(station_id, payload)
        self.told[station_id] = _Told(now_ms, shown)
        return True

    def close(self) -> None:
        self.sender.close()


def publish(station_id: int, *, now_ms: int) -> bool:
    """Was something told of the station? For callers without a Publisher of their own."""
    return _publisher().publish(station_id, now_ms=now_ms)


_default: list[Publisher] = []


def _publisher() -> Publisher:
    if not _default:
        _default.append(Publisher())
    return _default[0]


def _shown(now: LiveFigures) -> str:
    """What a reader would see of the figures, the instants left out."""
    staff = {key: value for key, value in now.staff().items() if key != "at"}
    staff["streams"] = [{**stream, "at": None} for stream in staff["streams"]]
    return json.dumps(staff)


class Sender:
    """Hands frames to the channel layer from a thread of its own: a dead Redis holds nobody up.

    Of a station only the newest frame waits. In-process layers are left out:
    they reach no other process, and their queues belong to the web server's
    event loop; within one process the web side reads LiveState.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.failed = 0
        self._waiting: dict[int, dict[str, Any]] = {}
        self._wake = threading.Event()
        self._stop = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def send(self, station_id: int, payload: Mapping[str, Any]) -> None:
        """Returns at once; the message leaves when the layer takes it, or is replaced by a newer one."""
        layer = get_channel_layer()
        if layer is None or isinstance(layer, InMemoryChannelLayer):
            return
        message = {
            "type": "live.frame",
            "public": _compact(payload["public"]),
            "staff": _compact(payload["staff"]),
            "at_ms": payload["at_ms"],
            "stale_after_ms": payload["stale_after_ms"],
        }
        with self._lock:
            self._waiting[station_id] = message
            if self._thread is None or not self._thread.is_alive():
                self._stop = False
                self._ended.clear()
                self._thread = threading.Thread(target=self._run, name="listen-stats-live", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self, timeout_seconds: float = SEND_SECONDS) -> None:
        """Ends the thread; what waits is sent first if the layer is quick."""
        self._stop = True
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        layer = get_channel_layer()
        with asyncio.Runner() as runner:
            while not self._stop or self._waiting:
                self._wake.wait()
                self._wake.clear()
                with self._lock:
                    waiting, self._waiting = self._waiting, {}
                for station_id, message in waiting.items():
                    if not runner.run(self._send_one(layer, station_id, message)) and not self._stop:
                        self._ended.wait(PAUSE_SECONDS)

    async def _send_one(self, layer: Any, station_id: int, message: dict[str, Any]) -> bool:
        try:
            await asyncio.wait_for(layer.group_send(f"listen_stats.live.{station_id}", message), SEND_SECONDS)
        except Exception as error:  # noqa: BLE001 - layers raise what their libraries raise; none may stop the count
            self.failed += 1
            log.warning("The channel layer took no live frame (%s); trying again.", type(error).__name__)
            return False
        self.sent += 1
        return True


def _compact(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
