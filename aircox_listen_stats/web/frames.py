"""What a live view shows, and when it becomes unknown.

A :class:`Frame` is the last word of the collector on one station. Which
figures may still be shown is decided when they are shown, by the reader's own
clock: a dead collector cannot announce its death.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..errors import MalformedRecord
from ..fields import EPOCH, MILLISECOND
from ..kernel.types import MS
from ..models import LiveState

VERSION = 1
"""The payload's ``v``; a change that an old widget cannot read counts it up."""

GROUP_PREFIX = "listen_stats.live."
"""Channel-layer group of a station's frames: this and the station's id."""

Payload = Mapping[str, Any]


class View(StrEnum):
    """Who looks: a visitor of the site, or the staff."""

    PUBLIC = "public"
    STAFF = "staff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The figures of one station as of an instant, and how long they hold."""

    public: Payload
    staff: Payload
    at_ms: int
    stale_after_ms: int

    def is_stale(self, now_ms: int) -> bool:
        """Whether nobody can know any longer if these figures still hold."""
        return now_ms >= self.at_ms + self.stale_after_ms

    def shown(self, view: View, *, now_ms: int) -> Payload:
        """What ``view`` may be told at ``now_ms``: once stale, that it is unknown."""
        payload = self.staff if view is View.STAFF else self.public
        return unknown(payload, now_ms=now_ms) if self.is_stale(now_ms) else payload


def group_name(station_id: int) -> str:
    """The channel-layer group on which the station's frames are sent."""
    return f"{GROUP_PREFIX}{station_id}"


def from_message(message: Mapping[str, Any]) -> Frame:
    """The frame in a channel-layer message. Raises MalformedRecord."""
    try:
        return _checked({**message, "public": json.loads(message["public"]), "staff": json.loads(message["staff"])})
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedRecord("live-frame", f"Not a live frame: {error!r}.") from None


def read(station_id: int) -> Frame | None:
    """The station's frame as last published, by one query; None before the first. Raises MalformedRecord."""
    payload = LiveState.objects.filter(pk=station_id).values_list("payload", flat=True).first()
    return None if payload is None else _checked(payload)


def _checked(parts: Mapping[str, Any]) -> Frame:
    """The frame of ``parts``, which a reader can show both fresh and stale. Raises MalformedRecord."""
    try:
        frame = Frame(
            public=parts["public"],
            staff=parts["staff"],
            at_ms=int(parts["at_ms"]),
            stale_after_ms=int(parts["stale_after_ms"]),
        )
        for view in View:
            for now_ms in (frame.at_ms, frame.at_ms + frame.stale_after_ms):
                encode(figures(frame.shown(view, now_ms=now_ms)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedRecord("live-frame", f"Not a live frame: {error!r}. docs/live.md has its shape.") from None
    return frame


def nothing_heard(slug: str, *, now_ms: int) -> Frame:
    """The frame of a station about which nothing was ever published: unknown."""
    payload = {
        "v": VERSION,
        "station": slug,
        "at": to_text(now_ms),
        "listeners": None,
        "includes_totals": False,
        "on_air": None,
    }
    staff = {**payload, "streams": [], "countries": [], "apps": []}
    return Frame(public=payload, staff=staff, at_ms=now_ms, stale_after_ms=0)


def unknown(payload: Payload, *, now_ms: int) -> Payload:
    """``payload`` with every count unknown. Its ``at`` stays: the last instant that was known.

    What is on air stays while its announced end lies ahead.
    """
    stale: dict[str, Any] = {**payload, "listeners": None, "includes_totals": False}
    on_air = payload.get("on_air")
    if on_air is not None:
        ends_ms = from_text(on_air.get("ends"))
        stale["on_air"] = {**on_air, "track": None} if ends_ms is not None and ends_ms > now_ms else None
    if "streams" in payload:
        stale["streams"] = [{**stream, "listeners": None} for stream in payload["streams"]]
        stale["countries"] = []
        stale["apps"] = []
    return stale


def figures(payload: Payload) -> Payload:
    """``payload`` without its instants: equal for two payloads that tell a reader the same."""
    told = {key: value for key, value in payload.items() if key != "at"}
    if "streams" in told:
        told["streams"] = [{key: value for key, value in stream.items() if key != "at"} for stream in told["streams"]]
    return told


def encode(payload: Payload) -> str:
    """``payload`` as compact JSON text."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def to_text(ms: int) -> str:
    """An instant as in the payload: ISO 8601 in UTC, with milliseconds."""
    return (EPOCH + dt.timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % MS:03d}Z"


def from_text(text: str | None) -> int | None:
    """Milliseconds of an ISO 8601 instant with its offset; None for none or anything else."""
    try:
        instant = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if instant.tzinfo is None else (instant - EPOCH) // MILLISECOND
