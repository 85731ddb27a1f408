"""Stream events: requests that a log shipper tells of, a JSON list of them in one POST.

The wire format is openbroadcast's, with a few fields more (docs/sources/stream_events.md). A stamp is the END
of a request, as in every web server's log: it began ``seconds_connected`` before. ``origin: icecast`` is a
connection that is over, ``origin: hls`` a request for a playlist or a segment, which tells what a line of
nginx's log tells (sources/hls.py).
"""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from ..errors import ConfigurationError, MalformedRecord
from ..kernel.referrers import host_of
from ..kernel.types import MS, Address, ListenerMark, Observation
from . import accesslog, hls, urlauth
from .base import Census, PushSource, Report
from .segments import Fetch, Stretch, Stretches
from .stamps import instant

__all__ = [
    "EXPECTED",
    "FIELDS",
    "BadField",
    "Event",
    "NoList",
    "Request",
    "StreamEventsSource",
    "Told",
    "decode",
    "event_of",
    "instant_of",
]

LONGEST_SECONDS = 366 * 24 * 3600
"""A socket older than a year is a broken counter."""

MOST_BYTES = 2**62
"""What both databases hold, with room to add."""

DISAGREE_MS = 2 * MS
"""Start, end and duration of one request are rounded each for itself, a second each."""

FUTURE_MS = 60 * MS
"""What ended later than this from now was stamped by a clock that is wrong."""

LONGEST_TARGET_SECONDS = 60.0
LONGEST_DELAY_SECONDS = 3600.0

REMEMBERED_REQUESTS = 8192
"""Different requests of which is remembered what they fetch: a segment is asked for by every player."""

REMEMBERED_STAMPS = 16_384
"""Requests of one second bear the same stamp."""

REMEMBERED_RENDITIONS = 1_024

NAMELESS = "#"
"""So begins a rendition that has no name: its path was too long for one, and may have been somebody's."""

LAST_INSTANT_MS = 253_402_300_800_000
"""The year 10000."""

# The wire -----------------------------------------------------------------------------------------

Stamp = str | int | float


class Event(msgspec.Struct, kw_only=True):
    """One event as it is told. Numbers may be quoted; fields that are not named here do no harm.

    ``path`` is the request's; a query is cut off once the session id was looked for in it. A stamp is
    ``22/Nov/2026:01:48:42 +0000``, ISO 8601 with its offset, or seconds since 1970. ``completion`` is nginx's:
    ``OK``, or '' where the transfer broke.
    """

    origin: Literal["hls", "icecast"]
    ip: str
    method: str
    path: str
    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    time_end: Stamp
    time_start: Stamp | None = None
    seconds_connected: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_SECONDS)] | None = None
    bytes_sent: Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)] | None = None
    user_agent: str | None = None
    referer: str | None = None
    forwarded_for: str | None = None
    session_id: str | None = None
    range: str | None = None
    completion: str | None = None


FIELDS = Event.__struct_fields__

EXPECTED: Mapping[str, str] = {
    "": "a JSON object",
    "origin": "hls or icecast",
    "ip": "an IPv4 or IPv6 address",
    "method": "the method of the request, such as GET",
    "path": "the path of the request, beginning with /",
    "status": "a status from 100 to 599",
    "time_end": "when it ended: 22/Nov/2026:01:48:42 +0000, ISO 8601 with its offset, or seconds since 1970",
    "time_start": "as time_end, and seconds_connected before it; or leave it out",
    "seconds_connected": "0 to 366 days, in seconds",
    "bytes_sent": f"a number from 0 to {MOST_BYTES}",
}
"""What each field should be, for whoever sent something else. Those not named are texts."""


class BadField(MalformedRecord):
    """An event that is refused for one of its fields. ``field`` is '' for what is no event at all."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason, f"{field or 'event'}: {reason}")
        self.field = field


class NoList(MalformedRecord):
    """A body that is no JSON list."""


_events = msgspec.json.Decoder(list[Event], strict=False)
_event = msgspec.json.Decoder(Event, strict=False)
_raws = msgspec.json.Decoder(list[msgspec.Raw])


def decode(body: bytes) -> list[Event | tuple[BadField, bytes]]:
    """The events in their order; where one is wrong, why, and what was sent. Raises NoList.

    What is no Unicode is read as far as it is: shippers pass agents on as they came.
    """
    try:
        return list(_events.decode(body))
    except msgspec.ValidationError:
        # One of them, or all; what stands behind it was not looked at yet.
        body = body.decode("utf-8", "replace").encode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = _mended(body)
    try:
        return [_one(bytes(raw)) for raw in _raws.decode(body)]
    except (msgspec.DecodeError, RecursionError):
        raise NoList("no_list", "The body is no JSON list.") from None


def _mended(body: bytes) -> bytes:
    """The same JSON with ? for each half of a character. Raises NoList for what is no JSON at all."""
    try:
        told = json.loads(body.decode("utf-8", "replace"))
        return json.dumps(told, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        raise NoList("json", "The body is no JSON.") from None


def _one(raw: bytes) -> Event | tuple[BadField, bytes]:
    try:
        return _event.decode(raw)
    except msgspec.ValidationError as error:
        return _bad_field(str(error)), raw
    except (msgspec.DecodeError, RecursionError):
        return BadField("", "nested"), raw


def event_of(fields: Mapping[str, Any]) -> Event:
    """The event of these fields. Raises BadField."""
    try:
        return msgspec.convert(fields, Event, strict=False)
    except msgspec.ValidationError as error:
        raise _bad_field(str(error)) from None


_MISSING = re.compile(r"missing required field `(\w+)`")
_AT = re.compile(r"at `\$\.(\w+)")


def _bad_field(said: str) -> BadField:
    """Which field msgspec means. Its own words may quote the value."""
    if missing := _MISSING.search(said):
        return BadField(missing[1], "missing")
    at = _AT.search(said)
    return BadField(at[1], "wrong") if at else BadField("", "no_object")


# What an event says -------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a request that is listening, but who made it.

    ``number`` is the segment's, None for Icecast and for a master playlist.
    """

    stream: str
    origin: str
    started_ms: int
    ended_ms: int
    method: str
    status: int
    bytes_sent: int | None
    rendition: str = ""
    number: int | None = None
    is_whole: bool = True
    referrer: str | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A request, whose it was, and ``key``, which names it for ever. ``session`` is a hash of the player's id."""

    key: int
    request: Request
    who: ListenerMark | Address
    identity_known: bool = True
    session: int | None = None


class StreamEventsSource(PushSource):
    """Events that were accepted and stored, as listening.

    A mount that ends in ``.m3u8`` or ``/`` is an HLS group, any other one an
    Icecast mount; an event is looked for among those of its origin.
    """

    options = {
        "target_seconds": (int, float),
        "segment_seconds": (int, float),
        "session_argument": str,
        "delay_seconds": (int, float),
    }
    late_seconds = 24 * 3600
    """A shipper tells of a radio set left on for a day when it is switched off, and waits while we are down."""

    def configure(
        self,
        *,
        target_seconds: float = 0.0,
        segment_seconds: float = 0.0,
        session_argument: str = "sid",
        delay_seconds: float = 30.0,
    ) -> None:
        """Takes the options; raises ConfigurationError."""
        at_hls = {mount: slug for mount, slug in self.streams.items() if mount.endswith(("/", *hls.PLAYLISTS))}
        self.groups = hls.groups(at_hls)
        self.mounts = {mount: slug for mount, slug in self.streams.items() if mount not in at_hls}
        if self.groups and not 1 <= target_seconds <= LONGEST_TARGET_SECONDS:
            raise ConfigurationError(
                f"Option 'target_seconds' of source {self.name!r} is {target_seconds!r}; expected 1 to "
                f"{LONGEST_TARGET_SECONDS:g}: what #EXT-X-TARGETDURATION of its playlists says."
            )
        if not 0 <= segment_seconds <= LONGEST_TARGET_SECONDS:
            raise ConfigurationError(
                f"Option 'segment_seconds' of source {self.name!r} is {segment_seconds!r}; expected up to "
                f"{LONGEST_TARGET_SECONDS:g}: what #EXTINF of its playlists says, or 0 for target_seconds."
            )
        if not 0 <= delay_seconds <= LONGEST_DELAY_SECONDS:
            raise ConfigurationError(
                f"Option 'delay_seconds' of source {self.name!r} is {delay_seconds!r}; expected 0 to "
                f"{LONGEST_DELAY_SECONDS:g}: how long the shipper keeps events back."
            )
        # Of a connection to Icecast is told when it is over: who is there now is known of HLS alone.
        self.follows_open_sessions = not self.mounts  # type: ignore[misc]
        self.target_ms = round(target_seconds * MS)
        self.segment_ms = round((segment_seconds or target_seconds) * MS)
        self.delay_ms = round(delay_seconds * MS)
        self.session_argument = session_argument
        self._placed: dict[tuple[Any, ...], tuple[hls.Part | None, str]] = {}

    # One event ------------------------------------------------------------------------------------

    def request(self, event: Event, *, now_ms: int, oldest_ms: int = 0) -> tuple[Request | None, str]:
        """(what is kept, "") of an event that is listening, else (None, why it is not). Raises BadField."""
        ended_ms = instant_of(event.time_end, "time_end")
        if ended_ms > now_ms + FUTURE_MS:
            raise BadField("time_end", "future")
        if ended_ms < oldest_ms:
            raise BadField("time_end", "too_old")
        started_ms = _started(event, ended_ms)
        part, reason = self.place(event)
        if part is None:
            return None, reason
        return (
            Request(
                stream=part.stream,
                origin=event.origin,
                started_ms=started_ms,
                ended_ms=ended_ms,
                method=event.method,
                status=event.status,
                bytes_sent=event.bytes_sent,
                rendition=_rendition(part.rendition),
                number=part.number,
                is_whole=part.is_whole,
                referrer=None if event.referer is None else host_of(event.referer),
            ),
            "",
        )

    def place(self, event: Event) -> tuple[hls.Part | None, str]:
        """(what is listened to, "") or (None, why nothing is). Raises BadField."""
        sent = event.bytes_sent
        amount = sent if sent is None or sent <= hls.PROBE_BYTES else hls.PROBE_BYTES + 1
        path = event.path.partition("?")[0]  # what follows may be somebody's, and is another one's each time
        key = (event.origin, path, event.method, event.status, event.range, event.completion, amount)
        found = self._placed.get(key)
        if found is None:
            found = self._place(event)
            if len(self._placed) >= REMEMBERED_REQUESTS:
                self._placed.clear()
            self._placed[key] = found
        return found

    def _place(self, event: Event) -> tuple[hls.Part | None, str]:
        if not event.path.startswith("/"):
            raise BadField("path", "wrong")
        if event.origin == "hls":
            return hls.part_of(self._line(event), self.groups)
        line = accesslog.AccessLine(
            address=_NOBODY,
            ended_s=0,
            method=event.method,
            path=event.path.partition("?")[0],
            status=event.status,
            bytes_sent=event.bytes_sent,
            duration_s=0,
        )
        stream, reason = accesslog.stream_of(line, self.mounts)
        return (hls.Part(stream=stream), "") if stream else (None, reason)

    def _line(self, event: Event) -> hls.HlsLine:
        return hls.request(
            method=event.method,
            target=event.path,
            status=event.status,
            bytes_sent=event.bytes_sent,
            asked=event.range or "",
            is_complete=event.completion in (None, "OK"),
        )

    def session_of(self, event: Event) -> str:
        """The player's session id; '' where it tells none."""
        if event.session_id and event.session_id != "-":
            return event.session_id
        return hls.session_in(event.path.partition("?")[2], self.session_argument) if "?" in event.path else ""

    def address_of(self, event: Event) -> tuple[Address, bool]:
        """Whose event it is, and whether that is the listener and not our own proxy. Raises BadField."""
        try:
            address = ipaddress.ip_address(event.ip.strip().strip("[]"))
        except ValueError:
            raise BadField("ip", "wrong") from None
        ip, identity_known = str(address), True
        if self.trusted_proxies:
            ip, identity_known = urlauth.beyond_proxies(ip, event.forwarded_for or "", self.trusted_proxies)
        return Address(ip=ip, agent=event.user_agent or ""), identity_known

    def path_of(self, stream: str, rendition: str, number: int | None) -> str:
        """The path of a stream's mount, playlist or segment; '' where the settings do not name the stream."""
        for mount, slug in self.mounts.items():
            if slug == stream:
                return mount
        for group in self.groups:
            if group.stream == stream:
                return group.folder + rendition.replace("#", str(number)) if number is not None else group.master
        return ""

    def receive(self, payload: Mapping[str, Any], *, received_ms: int) -> Sequence[Observation]:
        """What one event says by itself. Raises MalformedRecord."""
        event = event_of(payload)
        request, _ = self.request(event, now_ms=received_ms)
        address, identity_known = self.address_of(event)
        if request is None:
            return ()
        told = Told(key=0, request=request, who=address, identity_known=identity_known)
        return self.hear([told], {}, now_ms=received_ms).observations

    # All of them ----------------------------------------------------------------------------------

    def hear(self, told: Sequence[Told], cursor: Mapping[str, Any], *, now_ms: int, more: bool = False) -> Report:
        """What these events say after those that ``cursor`` remembers; ``more`` wait.

        Who has stopped asking for segments has left: that is a census made of the events, held back by
        ``delay_seconds`` where nothing comes. No report ends such a listener for good.
        """
        stretches = Stretches(cursor.get("stretches", {}), target_ms=self.target_ms)
        heard: dict[int, tuple[Stretch, Told]] = {}
        observations = []
        for one in sorted(told, key=_by_end):
            if one.request.origin == "icecast":
                observations.append(_connection(one))
                continue
            stretches.note(one.request.ended_ms)
            for stretch in stretches.take(self._fetch(one)):
                heard[stretch.client] = (stretch, one)
        observations += [self._stretch(*pair) for pair in heard.values()]
        newest_ms = max([int(cursor.get("newest_ms", 0)), *(one.request.ended_ms for one in told)])
        until_ms = min(newest_ms, now_ms) if more else max(min(newest_ms, now_ms), now_ms - self.delay_ms)
        counts = {"crowded": stretches.crowded} if stretches.crowded else {}
        return Report(
            source=self.name,
            observations=observations,
            census=self._census(until_ms),
            cursor={"newest_ms": newest_ms, "until_ms": until_ms, "stretches": stretches.remembered()},
            counts=counts,
            more=more,
        )

    def _census(self, until_ms: int) -> Census | None:
        """Who has asked for nothing up to ``until_ms`` has left; one more window for a player that is late."""
        if not self.groups:
            return None
        streams = frozenset(group.stream for group in self.groups)
        return Census(streams=streams, at_ms=until_ms - self.target_ms, by_silence=True)

    def _fetch(self, one: Told) -> Fetch:
        request = one.request
        duration_ms = request.ended_ms - request.started_ms
        return Fetch(
            visitor=_visitor(one),
            is_named=one.session is not None,
            stream=request.stream,
            # As with nginx's log: a slow transfer began earlier, by no more than a window.
            at_ms=request.ended_ms - min(duration_ms, self.target_ms),
            rendition=zlib.crc32(request.rendition.encode()),
            name="" if request.rendition.startswith(NAMELESS) else request.rendition,
            number=request.number,
            bytes_sent=request.bytes_sent or 0,
            is_whole=request.is_whole,
            referrer=request.referrer,
        )

    def _stretch(self, stretch: Stretch, one: Told) -> Observation:
        return Observation(
            stream=stretch.stream,
            started_ms=stretch.started_ms,
            seen_ms=stretch.end_ms(self.target_ms),
            client=str(stretch.client),
            bytes_sent=stretch.bytes_sent,
            delivered_ms=stretch.delivered_ms(self.segment_ms),
            rendition=stretch.name(),
            switches=stretch.switches,
            referrer=stretch.referrer,
            identity_known=one.identity_known,
            **_whose(one),
        )


_NOBODY = Address(ip="")


def _connection(one: Told) -> Observation:
    """A connection to Icecast, which is over. It is named by its key: told twice, it is one."""
    request = one.request
    return Observation(
        stream=request.stream,
        started_ms=request.started_ms,
        seen_ms=request.ended_ms,
        ended=True,
        client=f"event {one.key:x}",
        bytes_sent=request.bytes_sent,
        referrer=request.referrer,
        identity_known=one.identity_known,
        **_whose(one),
    )


@functools.lru_cache(maxsize=REMEMBERED_RENDITIONS)
def _rendition(pattern: str) -> str:
    """A rendition's name as it is kept; of one without a name, a hash that tells it from others."""
    if not pattern:
        return ""
    return hls.rendition_name(pattern) or f"{NAMELESS}{zlib.crc32(pattern.encode('utf-8', 'surrogatepass')):08x}"


def _whose(one: Told) -> dict[str, Any]:
    return {"address": one.who} if isinstance(one.who, Address) else {"mark": one.who}


def _visitor(one: Told) -> str:
    """Who asks for what stream, as a key that tells no address."""
    if one.session is not None:
        return f"{one.request.stream} session {one.session:x}"
    if isinstance(one.who, Address):
        return f"{one.request.stream} somebody"  # one event by itself
    return f"{one.request.stream} {one.who.listener:x}"


def _by_end(one: Told) -> tuple[int, int]:
    return one.request.ended_ms, one.key


def _started(event: Event, ended_ms: int) -> int:
    """The end less the duration; where none is told, the start that is."""
    told_ms = None if event.time_start is None else instant_of(event.time_start, "time_start")
    if event.seconds_connected is None:
        if told_ms is None:
            if event.origin == "hls":
                return ended_ms
            raise BadField("seconds_connected", "missing")
        if not 0 <= ended_ms - told_ms <= LONGEST_SECONDS * MS:
            raise BadField("time_start", "disagrees")
        return told_ms
    started_ms = ended_ms - round(event.seconds_connected * MS)
    if told_ms is not None and abs(told_ms - started_ms) > DISAGREE_MS:
        raise BadField("time_start", "disagrees")
    return started_ms


def instant_of(stamp: Stamp, field: str) -> int:
    """Epoch milliseconds. Raises BadField."""
    try:
        return _milliseconds(stamp)
    except _NoOffset:
        raise BadField(field, "no_offset") from None
    except (MalformedRecord, ValueError, OverflowError):
        raise BadField(field, "wrong") from None


class _NoOffset(Exception):
    """A time without its zone."""


@functools.lru_cache(maxsize=REMEMBERED_STAMPS)
def _milliseconds(stamp: Stamp) -> int:
    if not isinstance(stamp, str):
        ms = round(stamp * MS)
    elif stamp[2:3] == "/":
        ms = instant(stamp.encode("ascii")) * MS
    elif stamp.replace(".", "", 1).isdigit():
        ms = round(float(stamp) * MS)  # nginx's $msec comes quoted
    else:
        at = dt.datetime.fromisoformat(stamp)
        if at.tzinfo is None:
            raise _NoOffset
        ms = round(at.timestamp() * MS)
    if not 0 < ms < LAST_INSTANT_MS:
        raise ValueError("an instant outside 1970 to 9999")
    return ms
