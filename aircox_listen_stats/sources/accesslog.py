"""Icecast's access log: a line for each socket, written when it ends.

``IP - USER [END] "METHOD PATH PROTO" STATUS BYTES "REFERER" "AGENT" SECONDS``.
The stamp is the END of the connection; END less SECONDS is the whole second in
which it began. Icecast 2.4.4 writes ``.`` for every byte of an agent that is
not printable, and cuts a line at 1023 characters.
"""

from __future__ import annotations

import bz2
import gzip
import hmac
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from ..errors import MalformedRecord, SourceUnavailable
from ..kernel.referrers import host_of
from ..kernel.types import MS, Address, Observation
from . import follow, urlauth
from .base import Report
from .follow import MAX_LINE_BYTES, FollowedLog, Hearing, Place
from .stamps import instant

__all__ = [
    "AccessLine",
    "AccessLogSource",
    "LogChunk",
    "LogFile",
    "line_fields",
    "parse_line",
    "read_chunks",
    "stream_of",
    "whole_lines",
]

CUT_LINE_CHARACTERS = 1023
"""Where Icecast 2.4.4 cuts a line (BUFSIZE of its logging)."""

MAX_DURATION_SECONDS = 366 * 24 * 3600
"""A socket older than a year is a broken counter."""

LONGEST_SENT = 18
"""Digits of a number of bytes that the database holds."""

CHUNK_BYTES = 4 * 1024 * 1024
"""What an import parses at once: some 24,000 lines."""

UNFINISHED = "skipped_unfinished_line"

REMEMBERED_REQUESTS = 4096
"""Different requests of which is remembered whether they are listening."""

_LINE = re.compile(
    rb'(?P<ip>\S+) \S+ (?P<user>.*?) ?\[(?P<stamp>[^][]*)\] "(?P<request>(?:[^"\\]|\\.)*)" '
    rb'(?P<status>\d{3}) (?P<bytes>\d+|-) "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>.*)" (?P<seconds>\d+)'
)
"""The whole of a line, an agent with quotes in it included. The plain lines never meet it.

No stamp holds a bracket: else each of many would be tried up to the line's end.
"""

_WITHOUT_SECONDS = re.compile(rb'\S+ \S+ .*?\[[^][]*\] "(?:[^"\\]|\\.)*" \d{3} (?:\d+|-) "(?:[^"\\]|\\.)*" ".*"')

_STAMP = re.compile(rb"\[([^\]]*)\]")

_PLAYLISTS = (".m3u", ".xspf", ".m3u8", ".pls", ".vclt")
_PAGES = (".xsl", ".json", ".html", ".css", ".ico", ".png", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLine:
    """One line. ``ended_s`` is its stamp; USER is dropped at once, and REFERER but for its host."""

    address: Address
    ended_s: int
    method: str
    path: str  # without a query
    status: int
    bytes_sent: int | None
    duration_s: int
    referrer: str | None = None

    @property
    def started_s(self) -> int:
        return self.ended_s - self.duration_s


def parse_line(line: bytes) -> AccessLine:
    """What a line says. Raises MalformedRecord.

    Reasons: ``cut`` (at 1023 characters), ``no_duration`` (plain combined
    format), ``stamp``, ``duration``, ``bytes``, ``ip``, ``too_long``, ``malformed``.
    """
    ip, agent, ended_s, duration_s, _ = line_fields(line)
    _, request, (status, bytes_sent), _, _ = _split(line.strip(b"\0\r\n"))
    method, _, target = request.partition(b" ")
    return AccessLine(
        address=Address(ip=ip.decode("ascii"), agent=agent.decode("latin-1")),
        ended_s=ended_s,
        method=method.decode("latin-1"),
        path=_path(target),
        status=status,
        bytes_sent=bytes_sent,
        duration_s=duration_s,
        referrer=host_of(_referrer(line).decode("latin-1")),
    )


def _referrer(line: bytes) -> bytes:
    """The REFERER of a line that follows the format."""
    parts = line.split(b'"')
    if len(parts) == 7 and b"\\" not in line:
        return parts[3]
    match = _LINE.fullmatch(line.strip(b"\0\r\n"))
    return match["referer"] if match else b""


def stream_of(line: AccessLine, streams: Mapping[str, str]) -> tuple[str, str]:
    """(stream, "") of a line that is listening, else ("", why it is not).

    Listening is a GET that was answered 200 (206 to a range) with at least one
    byte, on a mount that is a stream.
    """
    if line.method in ("SOURCE", "PUT"):
        return "", "source_client"
    if line.path.startswith("/admin/") or line.path == "/admin":
        return "", "admin_page"
    if line.method != "GET":
        return "", "method"
    stream = streams.get(line.path) or streams.get(unquote(line.path))
    if stream is None:
        if line.path.endswith(_PLAYLISTS):
            return "", "playlist"
        if line.path == "/" or line.path.endswith(_PAGES):
            return "", "page"
        return "", "other_mount"
    if line.status not in (200, 206):
        return "", f"status_{line.status}"
    if line.bytes_sent == 0:
        return "", "nothing_sent"
    return stream, ""


def _split(line: bytes) -> tuple[bytes, bytes, tuple[int, int | None], bytes, bytes]:
    """Head, request, (status, bytes), agent, seconds. Plain lines without a regular expression."""
    parts = line.split(b'"')
    if len(parts) == 7 and b"\\" not in line:
        head, request, numbers, _, between, agent, seconds = parts
        seconds = seconds[1:]
        if between == b" " and parts[6][:1] == b" " and seconds.isdigit() and head[-2:] == b"] ":
            found = numbers.split(b" ")
            has_status = len(found) == 4 and len(found[1]) == 3 and found[1].isdigit()
            if has_status and (found[2].isdigit() or found[2] == b"-"):
                return head[:-2], request, (int(found[1]), _sent(found[2])), agent, _short(seconds)
    match = _LINE.fullmatch(line)
    if match is None:
        raise _refusal(line)
    ip, stamp = match["ip"], match["stamp"]
    numbers = (int(match["status"]), _sent(match["bytes"]))
    return ip + b" [" + stamp, match["request"], numbers, match["agent"], _short(match["seconds"])


def _sent(told: bytes) -> int | None:
    if told == b"-":
        return None
    if len(told) > LONGEST_SENT:
        raise MalformedRecord("bytes", "More bytes than anybody was ever sent.")
    return int(told)


def _short(seconds: bytes) -> bytes:
    if len(seconds) > 12:
        raise MalformedRecord("duration", "A duration of more than one year.")
    return seconds


def _refusal(line: bytes) -> MalformedRecord:
    if _WITHOUT_SECONDS.fullmatch(line):
        return MalformedRecord(
            "no_duration", "A line of the plain combined format: without its duration its start is unknown."
        )
    if len(line) >= CUT_LINE_CHARACTERS:
        return MalformedRecord("cut", f"Icecast cut this line at {CUT_LINE_CHARACTERS} characters.")
    return MalformedRecord("malformed", "A line that does not follow Icecast's format.")


def _path(target: bytes) -> str:
    path = target.rpartition(b" ")[0] if b" HTTP/" in target else target
    path = path.partition(b"?")[0]
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return path.decode("latin-1")


# --- reading whole files ------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class LogChunk:
    """What some thousand lines of a log say, in columns, in the order of the lines.

    ``stream`` holds indices into the streams' slugs, ``who`` into
    ``addresses``. ``offset`` is the (decompressed) byte behind the chunk's
    last line. ``first_ms`` and ``last_ms`` bound the stamps of all its lines,
    listening or not; 0 where no line could be read.
    """

    offset: int
    started_ms: list[int] = field(default_factory=list)
    ended_ms: list[int] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    who: list[int] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    first_ms: int = 0
    last_ms: int = 0


def read_chunks(
    log: IO[bytes], streams: Mapping[str, str], *, offset: int = 0, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[LogChunk]:
    """The chunks of an open log from ``offset`` on.

    A last line without its newline may still be written: it is counted, not
    read, and ``offset`` stays before it.
    """
    slugs = sorted(set(streams.values()))
    numbers = {slug: number for number, slug in enumerate(slugs)}
    requests: dict[bytes, tuple[int, str]] = {}
    for lines, end in whole_lines(log, offset=offset, block_bytes=chunk_bytes):
        if lines is None:
            yield LogChunk(offset=end, counts={UNFINISHED: 1})
        else:
            yield _parsed(lines, end, streams, numbers, requests)


def whole_lines(
    log: IO[bytes], *, offset: int, block_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[list[bytes] | None, int]]:
    """The lines of an open log from ``offset`` on, block by block, each with the offset behind it.

    None instead of lines where a last one without its newline may still be written.
    """
    rest = b""
    while block := log.read(block_bytes):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) > MAX_LINE_BYTES:
            lines.append(rest)  # refused as too long; what follows it on the line is refused too
            offset -= 1
            rest = b""
        offset += sum(map(len, lines)) + len(lines)
        yield lines, offset
    if rest:
        yield None, offset


_COMPRESSED: Mapping[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
"""How logs that logrotate has compressed are opened, by their suffix."""

_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)


class LogFile:
    """A log file to import, plain or compressed. ``size`` is what it takes on disk."""

    def __init__(self, path: Path) -> None:
        self.label = path.name
        self._path = path
        self._raw: IO[bytes] | None = None
        try:
            self.size = path.stat().st_size
            self._first_line, self._first_s = self._head()
        except _UNREADABLE as error:
            raise self._unreadable(error) from None

    def first_line(self) -> bytes:
        """The first line as it stands; b"" in an empty log."""
        return self._first_line

    def first_ms(self) -> int:
        """The first stamp; 0 where no line near the beginning has one."""
        return self._first_s * MS

    def bytes_read(self) -> int:
        """How much of ``size`` the last reading has come through."""
        return self.size if self._raw is None or self._raw.closed else self._raw.tell()

    def length(self) -> int:
        """Bytes of the whole log, decompressed."""
        if self._path.suffix not in _COMPRESSED:
            return self._path.stat().st_size
        with self._open() as log:
            return sum(map(len, self._blocks(log)))

    def digest(self, length: int, key: bytes) -> str | None:
        """A keyed hash of the first ``length`` bytes; None where the log is shorter."""
        hashed = hmac.new(key, digestmod="sha256")  # which processors have instructions for
        with self._open() as log:
            for block in self._blocks(log):
                hashed.update(block[:length])
                length -= min(length, len(block))
                if not length:
                    break
        return None if length else hashed.hexdigest()

    def chunks(self, streams: Mapping[str, str], *, offset: int = 0) -> Iterator[LogChunk]:
        """The log from ``offset`` on; see :func:`read_chunks`. Raises SourceUnavailable."""
        with self._open() as log:
            try:
                log.seek(offset)
                yield from read_chunks(log, streams, offset=log.tell())
            except _UNREADABLE as error:
                raise self._unreadable(error) from None

    def refused_ends(self, first: int, last: int) -> list[int]:
        """The ends, in milliseconds, of the lines between two offsets that are refused, where a stamp can be read."""
        with self._open() as log:
            log.seek(first)
            lines = log.read(last - first).split(b"\n")
        return [end_ms for line in lines if line and (end_ms := _refused_end(line))]

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with self._opened() as (log, self._raw):
            yield log

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The log, decompressed, and the file as it lies on the disk."""
        try:
            with self._path.open("rb") as raw:
                opened = _COMPRESSED.get(self._path.suffix)
                yield (raw if opened is None else opened(raw)), raw
        except _UNREADABLE as error:
            raise self._unreadable(error) from None

    def _blocks(self, log: IO[bytes]) -> Iterator[bytes]:
        while block := log.read(CHUNK_BYTES):
            yield block

    def _head(self) -> tuple[bytes, int]:
        with self._open() as log:
            head = log.read(follow.HEAD_BYTES)
        return head.partition(b"\n")[0], follow.first_stamp(head, lambda line: parse_line(line).ended_s)

    def _unreadable(self, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(
            f"Log {self.label!r} cannot be read to its end ({type(error).__name__}). "
            f"May this user read it? Is it a complete {self._path.suffix or 'file'}?"
        )


def _refused_end(line: bytes) -> int:
    """The stamp of a line that is refused, in milliseconds; 0 of any other line, and where it has none."""
    try:
        parse_line(line)
    except MalformedRecord:
        stamp = _STAMP.search(line[:MAX_LINE_BYTES])
        try:
            return instant(stamp[1]) * MS if stamp else 0
        except MalformedRecord:
            return 0
    return 0


def _parsed(
    lines: Sequence[bytes],
    offset: int,
    streams: Mapping[str, str],
    numbers: Mapping[str, int],
    requests: dict[bytes, tuple[int, str]],
) -> LogChunk:
    """The lines in columns: what :func:`parse_line` and :func:`stream_of` give, several times faster."""
    chunk = LogChunk(offset=offset)
    known: dict[tuple[bytes, bytes], int] = {}
    counts: dict[str, int] = {}
    started_ms, ended_ms, stream, who = chunk.started_ms, chunk.ended_ms, chunk.stream, chunk.who
    first_s = last_s = read = 0
    for line in lines:
        if not line:
            continue
        read += 1
        try:
            ip, agent, ended_s, duration_s, key = line_fields(line)
        except MalformedRecord as error:
            name = f"refused_{error.reason}"
            counts[name] = counts.get(name, 0) + 1
            continue
        placed = requests.get(key)
        if placed is None:
            placed = _placed(parse_line(line), streams, numbers)
            if len(requests) < REMEMBERED_REQUESTS:
                requests[key] = placed
        number, reason = placed
        if not first_s or ended_s < first_s:
            first_s = ended_s
        if ended_s > last_s:
            last_s = ended_s
        if reason:
            counts[reason] = counts.get(reason, 0) + 1
            continue
        index = known.get((ip, agent))
        if index is None:
            index = known[ip, agent] = len(chunk.addresses)
            chunk.addresses.append(Address(ip=ip.decode("ascii"), agent=agent.decode("latin-1")))
        stream.append(number)
        who.append(index)
        ended_ms.append(ended_s * MS)
        started_ms.append((ended_s - duration_s) * MS)
    chunk.first_ms, chunk.last_ms = first_s * MS, last_s * MS
    chunk.counts = {"read": read, "kept": len(stream), **counts}
    return chunk


def line_fields(line: bytes) -> tuple[bytes, bytes, int, int, bytes]:
    """Address, agent, end and duration, and what decides whether the line is listening."""
    if len(line) > MAX_LINE_BYTES:
        raise MalformedRecord("too_long", f"A line of more than {MAX_LINE_BYTES} bytes.")
    head, request, (status, sent), agent, seconds = _split(line.strip(b"\0\r\n"))
    ip, _, stamp = head.partition(b" ")
    if not ip or not ip.isascii():
        raise MalformedRecord("ip", "A line without an address.")
    duration_s = int(seconds)
    if duration_s > MAX_DURATION_SECONDS:
        raise MalformedRecord("duration", "A duration of more than one year.")
    ended_s = instant(stamp[stamp.rfind(b"[") + 1 :])
    if ended_s < duration_s:
        raise MalformedRecord("stamp", "A line of before 1970.")
    return ip, agent, ended_s, duration_s, b"%b %d %b" % (request, status, b"0" if sent == 0 else b"")


def _placed(line: AccessLine, streams: Mapping[str, str], numbers: Mapping[str, int]) -> tuple[int, str]:
    stream, reason = stream_of(line, streams)
    return (-1, f"skipped_{reason}") if reason else (numbers[stream], "")


# --- following ----------------------------------------------------------------------------------


class AccessLogSource(FollowedLog):
    """Follows an access log through its rotations.

    A log tells of a socket when it ends, so nobody is seen listening now, and
    what it says of an hour is only complete when the last of that hour's
    listeners has left.
    """

    follows_open_sessions = False
    late_seconds = 24 * 3600
    """A radio set left on for a day is told of when it is switched off."""

    def stamp_of(self, line: bytes) -> int:
        return parse_line(line).ended_s

    def open_part(self, line: bytes) -> bytes:
        """Its stamp, request and numbers."""
        parts = line.split(b'"')
        return b'"'.join([parts[0][parts[0].find(b"[") :], *parts[1:3], parts[-1] if len(parts) > 3 else b""])

    def hearing(self, cursor: Mapping[str, Any], *, now_ms: int) -> Hearing:
        return _Hearing(self, now_ms)


class _Hearing(Hearing):
    """What one pull has brought: a connection for each line that is listening."""

    def __init__(self, source: AccessLogSource, now_ms: int) -> None:
        super().__init__()
        self.source = source
        self.now_ms = now_ms
        self.newest_s = 0
        self.observations: list[Observation] = []

    def hear(self, line: bytes) -> None:
        self.counts["read"] += 1
        try:
            access = parse_line(line)
        except MalformedRecord as error:
            self.count(f"refused_{error.reason}")
            return
        self.newest_s = max(self.newest_s, access.ended_s)
        stream, reason = stream_of(access, self.source.streams)
        if reason:
            self.count(f"skipped_{reason}")
            return
        self.counts["kept"] += 1
        self.observations.append(
            Observation(
                stream=stream,
                started_ms=access.started_s * MS,
                seen_ms=access.ended_s * MS,
                ended=True,
                address=access.address,
                bytes_sent=access.bytes_sent,
                referrer=access.referrer,
                identity_known=not urlauth.is_within(access.address.ip, self.source.trusted_proxies),
            )
        )

    def report(self, place: Place, *, more: bool) -> Report:
        newest_ms = max(self.newest_s * MS, place.since_ms)
        until_ms = min(newest_ms, self.now_ms) if more else self.now_ms
        return Report(
            source=self.source.name,
            observations=self.observations,
            heard=place.heard(self.source.streams, until_ms),
            cursor=place.cursor(until_ms),
            counts=self.counts,
            more=more,
        )
