"""HLS behind nginx: a log of requests for playlists and segments, as listening.

HLS has no connection and no end. A request for a segment at ``t`` says that
somebody hears ``[t, t + target duration)``; listening is the union of these
windows and not the number of segments, since players begin with several at
once. Two formats are read: JSON (docs/sources/hls.md has the ``log_format``),
with milliseconds and session ids, and nginx's combined one.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from posixpath import normpath
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from django.utils.crypto import salted_hmac

from ..errors import ConfigurationError, MalformedRecord
from ..kernel.identity import normalise_agent, normalise_ip
from ..kernel.referrers import host_of
from ..kernel.types import MS, Address, Observation
from . import urlauth
from .base import Census, Report
from .follow import MAX_LINE_BYTES, FollowedLog, Hearing, Place
from .segments import Fetch, Stretch, Stretches
from .stamps import instant

__all__ = [
    "Group",
    "HlsLine",
    "HlsSource",
    "Part",
    "groups",
    "parse_line",
    "part_of",
    "rendition_name",
    "request",
    "session_in",
]

PROBE_BYTES = 1024
"""Who asks for no more than so much of a segment looks whether it is there (openbroadcast's minimum)."""

LONGEST_TARGET_SECONDS = 60.0
LONGEST_DELAY_SECONDS = 3600.0
MOST_QUERY_FIELDS = 64
LONGEST_SESSION_ID = 512

FUTURE_MS = 60 * MS
"""A line of later than this from now was stamped by a clock that is wrong."""

LAST_INSTANT_S = 253_402_300_800
"""The year 10000."""

PLAYLISTS = (".m3u8", ".m3u")
SEGMENTS = (".ts", ".aac", ".mp3", ".m4s", ".m4a", ".mp4", ".cmfa", ".ac3", ".ec3")
"""Media segments of RFC 8216 and of fragmented MP4."""

LONGEST_NAME = 32
"""Characters of a rendition's name that are kept (``Session.rendition``)."""

_NUMBER = re.compile(r"(?<!\d)\d++(?=\D*$)")
_NOBODYS = re.compile(r"[^/]{25}|\d{8}")
"""What in a path is too long for a rendition's name: a token, a time, an id."""

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_COMBINED = re.compile(
    rb'(?P<ip>\S+) \S+ .*?\[(?P<stamp>[^][]*)\] "(?P<request>(?:[^"\\]|\\.)*)" '
    rb'(?P<status>\d{3}) (?P<bytes>\d{1,18}|-) "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
    rb'(?: "(?P<forwarded>[^"]*)")?.*'
)


# Lines --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HlsLine:
    """One request. ``ended_ms`` is when nginx was done with it, ``duration_ms`` how long it took.

    ``session`` is the player's or the query's session id, '' where there is
    none. ``asked`` is the range in the request: first and last byte, None
    where it names none. Its repr hides who it was.
    """

    address: Address
    ended_ms: int
    duration_ms: int
    method: str
    path: str
    status: int
    bytes_sent: int | None
    session: str = ""
    asked: tuple[int, int | None] | None = None
    is_complete: bool = True
    forwarded: str = ""
    referrer: str | None = None

    def __repr__(self) -> str:
        return "HlsLine(hidden)"


class _Record(msgspec.Struct):
    """The fields of the JSON format. Numbers may be quoted: nginx's ``$msec`` is."""

    remote_addr: str
    method: str
    uri: str
    msec: str | float
    status: str | int
    args: str = ""
    body_bytes_sent: str | int = ""
    request_time: str | float = ""
    completion: str = "OK"
    session: str = ""
    range: str = ""
    agent: str = ""
    xff: str = ""
    referer: str | None = None


_records = msgspec.json.Decoder(_Record)


def parse_line(line: bytes, *, session_argument: str = "sid") -> HlsLine:
    """What a line says, JSON or combined. Raises MalformedRecord.

    Reasons: ``too_long``, ``json``, ``stamp``, ``status``, ``bytes``,
    ``duration``, ``ip``, ``malformed``.
    """
    if len(line) > MAX_LINE_BYTES:
        raise MalformedRecord("too_long", f"A line of more than {MAX_LINE_BYTES} bytes.")
    line = line.strip(b"\0\r\n ")
    if line.startswith(b"{"):
        return _from_json(_record(line), session_argument)
    return _from_combined(line, session_argument)


def request(*, method: str, target: str, status: int, bytes_sent: int | None, asked: str, is_complete: bool) -> HlsLine:
    """A request that came otherwise than by a log, whose it was and when left out. ``asked`` is its Range."""
    return HlsLine(
        address=Address(ip=""),
        ended_ms=0,
        duration_ms=0,
        method=method,
        path=_clean(unquote(target.partition("?")[0])),
        status=status,
        bytes_sent=bytes_sent,
        asked=_asked(asked),
        is_complete=is_complete,
    )


def session_in(query: str, name: str) -> str:
    """The session id in a query; '' where there is none."""
    return _argument(query, name)


def _record(line: bytes) -> _Record:
    try:
        return _records.decode(line)
    except UnicodeDecodeError:
        pass  # nginx escapes quotes and controls, and writes any other byte of an agent as it came
    except (msgspec.DecodeError, RecursionError) as error:
        raise _no_record() from error
    try:
        return _records.decode(line.decode("latin-1").encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise _no_record() from error


def _no_record() -> MalformedRecord:
    return MalformedRecord("json", "A line that is no JSON object with remote_addr, method, uri, msec and status.")


def _from_json(record: _Record, session_argument: str) -> HlsLine:
    ended_s = _number(record.msec, "stamp")
    if not 0 < ended_s < LAST_INSTANT_S:
        raise MalformedRecord("stamp", "An msec that is no instant.")
    duration_s = _number(record.request_time, "duration")
    if not 0 <= duration_s < LAST_INSTANT_S:
        raise MalformedRecord("duration", "A request_time below zero or endless.")
    sent = record.body_bytes_sent
    return HlsLine(
        address=Address(ip=_ip(record.remote_addr), agent=record.agent),
        ended_ms=round(ended_s * MS),
        duration_ms=round(duration_s * MS),
        method=record.method,
        path=_clean(record.uri),
        status=_status(record.status),
        bytes_sent=None if sent in ("", "-") else _bytes(sent),
        session=(record.session if record.session != "-" else "")[:LONGEST_SESSION_ID]
        or _argument(record.args, session_argument),
        asked=_asked(record.range),
        is_complete=record.completion == "OK",
        forwarded=record.xff if record.xff != "-" else "",
        referrer=None if record.referer is None else host_of(record.referer),
    )


def _from_combined(line: bytes, session_argument: str) -> HlsLine:
    match = _COMBINED.fullmatch(line)
    if match is None:
        raise MalformedRecord("malformed", "A line of neither the JSON nor the combined format.")
    method, _, target = match["request"].decode("latin-1").partition(" ")
    path, _, query = target.partition(" ")[0].partition("?")
    sent, forwarded = match["bytes"], match["forwarded"] or b""
    return HlsLine(
        address=Address(ip=_ip(match["ip"].decode("latin-1")), agent=_unescaped(match["agent"])),
        ended_ms=instant(match["stamp"]) * MS,
        duration_ms=0,
        method=method,
        path=_clean(unquote(path)),
        status=_status(match["status"].decode()),
        bytes_sent=None if sent == b"-" else int(sent),
        session=_argument(query, session_argument),
        forwarded=forwarded.decode("latin-1") if forwarded != b"-" else "",
        referrer=host_of(match["referer"].decode("latin-1")),
    )


def _number(value: str | float, reason: str) -> float:
    """The number; 0 where nginx has none to tell."""
    if value in ("", "-"):
        return 0.0
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise MalformedRecord(reason, "A field that should be a number of seconds is none.") from None


def _bytes(value: str | int) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise MalformedRecord("bytes", "A body_bytes_sent that is no number of bytes.")
    return int(text)


def _status(value: str | int) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) == 3):
        raise MalformedRecord("status", "A status that is none.")
    return int(text)


def _ip(text: str) -> str:
    if not text or not text.isascii():
        raise MalformedRecord("ip", "A line without an address.")
    return text


_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")


def _unescaped(agent: bytes) -> str:
    """The agent as it was sent: the combined format writes quotes, backslashes and odd bytes as ``\\xXX``."""
    if agent == b"-":
        return ""
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), agent)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _argument(query: str, name: str) -> str:
    """The session id in a query; '' where there is none."""
    if not name or name not in query:
        return ""
    try:
        fields = parse_qsl(query, max_num_fields=MOST_QUERY_FIELDS)
    except ValueError:
        return ""
    return next((value for key, value in fields if key == name), "")[:LONGEST_SESSION_ID]


def _asked(text: str) -> tuple[int, int | None] | None:
    match = _RANGE.match(text)
    if match is None or not match[1]:
        return None
    return int(match[1]), int(match[2]) if match[2] else None


def _clean(path: str) -> str:
    return "/" + normpath(path.replace("\0", "")).lstrip("/") if path.startswith("/") else path


# What is listening --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A stream in all its renditions: everything in ``folder``. ``master`` is '' where it is not named."""

    stream: str
    folder: str
    master: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a line has fetched of a stream. ``number`` is None for the master playlist.

    ``is_whole`` is False where the same player may ask for it again.
    """

    stream: str
    rendition: str = ""
    number: int | None = None
    is_whole: bool = True


def groups(streams: Mapping[str, str]) -> tuple[Group, ...]:
    """The groups of the mounts, the deepest folder first. Raises ConfigurationError.

    A mount is the path of a master playlist, whose folder is the group, or a
    folder.
    """
    found: dict[str, Group] = {}
    for mount, slug in streams.items():
        path = _clean(mount if mount.startswith("/") else f"/{mount}")
        is_master = path.endswith(PLAYLISTS)
        folder = (path.rpartition("/")[0] if is_master else path).rstrip("/") + "/"
        if folder in found:
            raise ConfigurationError(
                f"Streams {found[folder].stream!r} and {slug!r} share the folder {folder!r}: "
                "whose segments lie in it cannot be told. Give each HLS output a folder of its own."
            )
        found[folder] = Group(stream=slug, folder=folder, master=path if is_master else "")
    return tuple(sorted(found.values(), key=lambda group: (-len(group.folder), group.folder)))


def part_of(line: HlsLine, known: Sequence[Group]) -> tuple[Part | None, str]:
    """(what was fetched, "") of a line that is listening, else (None, why it is not)."""
    group = next((one for one in known if line.path.startswith(one.folder)), None)
    if group is None:
        return None, "other_path"
    if line.method != "GET":
        return None, "method"
    if line.status not in (200, 206, 304):
        return None, f"status_{line.status}"
    name = line.path.lower()
    if name.endswith(PLAYLISTS):
        return _playlist(line, group)
    if not name.endswith(SEGMENTS):
        return None, "other_file"
    return _segment(line, group)


def _playlist(line: HlsLine, group: Group) -> tuple[Part | None, str]:
    if line.path != group.master:
        return None, "playlist"
    if line.status == 206 and line.asked is not None and _is_probe(line):
        return None, "probe"
    return Part(stream=group.stream), ""


def _segment(line: HlsLine, group: Group) -> tuple[Part | None, str]:
    name = line.path[len(group.folder) :]
    digits = _NUMBER.search(name.rpartition(".")[0])
    if digits is None or "init" in name.rpartition("/")[2].lower():
        return None, "no_segment"  # the header that comes before fragmented MP4
    if line.status != 304 and line.bytes_sent == 0:
        return None, "nothing_sent"
    if line.status == 206 and _is_probe(line):
        return None, "probe"
    rendition = name[: digits.start()] + "#" + name[digits.end() :]
    is_partial = line.status == 206 and line.asked is not None and (line.asked[0] > 0 or line.asked[1] is not None)
    return (
        Part(
            stream=group.stream,
            rendition=rendition,
            number=int(digits[0][-15:]),
            is_whole=line.is_complete and line.status != 304 and not is_partial,
        ),
        "",
    )


def rendition_name(rendition: str) -> str:
    """What is kept of a rendition (``Part.rendition``): its path up to the number, ``hi`` of ``hi_#.ts``.

    '' where that is too long for a name, and may be somebody's.
    """
    words = (word.strip("-_. ") for word in rendition.partition("#")[0].split("/"))
    name = "/".join(word for word in words if word)
    return "" if len(name) > LONGEST_NAME or _NOBODYS.search(name) else name


def _is_probe(line: HlsLine) -> bool:
    """A player that asks for the first bytes to see whether ranges are answered, or what this is."""
    if line.asked is not None:
        first, last = line.asked
        return last is not None and last - first < PROBE_BYTES
    return line.bytes_sent is not None and line.bytes_sent <= PROBE_BYTES


# Following ----------------------------------------------------------------------------------------


class HlsSource(FollowedLog):
    """Follows nginx's log of an HLS output.

    Who has stopped asking has left: a listener's connection is over two
    target durations after the last segment, and open again if it is asked for
    one. That is a census made of the log, and no report ends anybody for good.
    """

    options = {
        **FollowedLog.options,
        "target_seconds": (int, float),
        "segment_seconds": (int, float),
        "session_argument": str,
        "delay_seconds": (int, float),
    }
    late_seconds = 3600

    def configure(
        self,
        *,
        path: str = "",
        start_at: str = "end",
        poll_seconds: float = 2.0,
        target_seconds: float = 0.0,
        segment_seconds: float = 0.0,
        session_argument: str = "sid",
        delay_seconds: float = 0.0,
    ) -> None:
        """Takes the options; raises ConfigurationError. The file is not opened yet."""
        super().configure(path=path, start_at=start_at, poll_seconds=poll_seconds)
        if not 1 <= target_seconds <= LONGEST_TARGET_SECONDS:
            raise ConfigurationError(
                f"Option 'target_seconds' of source {self.name!r} is {target_seconds!r}; expected 1 to "
                f"{LONGEST_TARGET_SECONDS:g}: what #EXT-X-TARGETDURATION of its playlists says."
            )
        if segment_seconds and not 0 < segment_seconds <= LONGEST_TARGET_SECONDS:
            raise ConfigurationError(
                f"Option 'segment_seconds' of source {self.name!r} is {segment_seconds!r}; expected up to "
                f"{LONGEST_TARGET_SECONDS:g}: what #EXTINF of its playlists says, or 0 for target_seconds."
            )
        if not 0 <= delay_seconds <= LONGEST_DELAY_SECONDS:
            raise ConfigurationError(
                f"Option 'delay_seconds' of source {self.name!r} is {delay_seconds!r}; expected 0 to "
                f"{LONGEST_DELAY_SECONDS:g}: how long nginx keeps lines back (flush= of its access_log)."
            )
        self.groups = groups(self.streams)
        self.target_ms = round(target_seconds * MS)
        self.segment_ms = round((segment_seconds or target_seconds) * MS)
        self.delay_ms = round(delay_seconds * MS)
        self.session_argument = session_argument

    def stamp_of(self, line: bytes) -> int:
        return parse_line(line).ended_ms // MS

    def open_part(self, line: bytes) -> bytes:
        """Its instant, path and numbers."""
        try:
            said = parse_line(line, session_argument="")
        except MalformedRecord as error:
            return error.reason.encode()
        numbers = f"{said.ended_ms} {said.duration_ms} {said.status} {said.bytes_sent}"
        return f"{numbers} {said.method} {said.path}".encode("utf-8", "surrogatepass")

    def hearing(self, cursor: Mapping[str, Any], *, now_ms: int) -> Hearing:
        return _Hearing(self, cursor, now_ms)


class _Hearing(Hearing):
    """What one pull has brought: the stretches that began or became longer."""

    def __init__(self, source: HlsSource, cursor: Mapping[str, Any], now_ms: int) -> None:
        super().__init__()
        self.source = source
        self.now_ms = now_ms
        self.stretches = Stretches(cursor.get("stretches", {}), target_ms=source.target_ms)
        self.newest_ms = 0
        self.told: dict[int, tuple[Stretch, Address, bool]] = {}
        self._known: dict[tuple[str, str], tuple[str, bool]] = {}
        self._visitors: dict[tuple[str, ...], str] = {}

    def hear(self, line: bytes) -> None:
        self.counts["read"] += 1
        try:
            said = parse_line(line, session_argument=self.source.session_argument)
        except MalformedRecord as error:
            self.count(f"refused_{error.reason}")
            return
        if said.ended_ms > self.now_ms + FUTURE_MS:
            self.count("refused_future")
            return
        self.newest_ms = max(self.newest_ms, said.ended_ms)
        self.stretches.note(said.ended_ms)
        part, reason = part_of(said, self.source.groups)
        if part is None:
            self.count(f"skipped_{reason}")
            return
        self.counts["kept"] += 1
        address, identity_known = self._address(said)
        for one in self.stretches.take(self._fetch(said, part, address)):
            self.told[one.client] = (one, address, identity_known)

    def _address(self, said: HlsLine) -> tuple[Address, bool]:
        seen = (said.address.ip, said.forwarded)
        found = self._known.get(seen)
        if found is None:
            found = self._known[seen] = urlauth.beyond_proxies(*seen, self.source.trusted_proxies)
        return Address(ip=found[0], agent=said.address.agent), found[1]

    def _fetch(self, said: HlsLine, part: Part, address: Address) -> Fetch:
        seen = (part.stream, said.session) if said.session else (part.stream, address.ip, address.agent)
        visitor = self._visitors.get(seen)
        if visitor is None:
            visitor = self._visitors[seen] = _visitor(part.stream, said.session, address)
        return Fetch(
            visitor=visitor,
            is_named=bool(said.session),
            stream=part.stream,
            # A slow transfer began earlier; no more than a window, so that lines stay nearly in order.
            at_ms=said.ended_ms - min(said.duration_ms, self.source.target_ms),
            rendition=zlib.crc32(part.rendition.encode("utf-8", "surrogatepass")),
            name=rendition_name(part.rendition),
            number=part.number,
            bytes_sent=said.bytes_sent or 0,
            is_whole=part.is_whole,
            referrer=said.referrer,
        )

    def report(self, place: Place, *, more: bool) -> Report:
        now_ms = self.now_ms - self.source.delay_ms
        until_ms = min(max(self.newest_ms, place.since_ms), now_ms) if more else now_ms
        if self.stretches.crowded:
            self.counts["crowded"] = self.stretches.crowded
        return Report(
            source=self.source.name,
            observations=[self._observation(*told) for told in self.told.values()],
            # Who was last heard before this asks no more: one more window for a player that is late.
            census=Census(
                streams=frozenset(self.source.streams.values()),
                at_ms=until_ms - self.source.target_ms,
                by_silence=True,
            ),
            heard=place.heard(self.source.streams, until_ms),
            cursor={**place.cursor(until_ms), "stretches": self.stretches.remembered()},
            counts=self.counts,
            more=more,
        )

    def _observation(self, one: Stretch, address: Address, identity_known: bool) -> Observation:
        return Observation(
            stream=one.stream,
            started_ms=one.started_ms,
            seen_ms=one.end_ms(self.source.target_ms),
            client=str(one.client),
            address=address,
            bytes_sent=one.bytes_sent,
            delivered_ms=one.delivered_ms(self.source.segment_ms),
            rendition=one.name(),
            switches=one.switches,
            referrer=one.referrer,
            identity_known=identity_known,
        )


def _visitor(stream: str, session: str, address: Address) -> str:
    """Who asks, as a key that is kept while the stretch may go on, under a secret that no database holds."""
    who = f"session\0{session}"
    if not session:
        who = f"address\0{normalise_ip(address.ip)}\0{normalise_agent(address.agent)}"
    told = f"{stream}\0{who}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(told, key=_secret(), digest_size=12).hexdigest()


@lru_cache(maxsize=1)
def _secret() -> bytes:
    return salted_hmac("aircox_listen_stats.sources.hls", "visitors", algorithm="sha256").digest()
