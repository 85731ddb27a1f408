"""What a source tells of a stream's hours, held in memory: to be compared, or to take another's place.

Nothing is stored here. The addresses in a log end here as they end
anywhere: a key, a country, an app, a label. Keys are made under the secrets
of the live keys where these are still there, and can then be compared; else
under one that is forgotten at once.
"""

from __future__ import annotations

import itertools
import secrets as entropy
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import conf
from ..errors import ListenStatsError
from ..fields import from_ms, to_ms
from ..kernel import calendar, sessionize
from ..kernel.agreement import Telling
from ..kernel.types import Address, Exclusion, ListenerMark, Observation
from ..models import Coverage, Secret, Session, SourceState, Stream
from ..sources import registry
from ..sources.accesslog import LogFile
from ..sources.base import PullSource
from ..sources.follow import FollowedLog
from ..sources.hls import HlsSource
from ..sources.hlsfile import HlsLogFile
from ..sources.hlslog import BATCH_REQUESTS, FinishedStretches, LogReader
from ..sources.lahmacun import PolledDay
from . import recognise
from .blurs import SHARED_ADDRESS
from .inbox import HEARS_ARRIVALS
from .ingest import run_together
from .secrets import SECRET_BYTES, Secrets

__all__ = [
    "SHARED_ADDRESS",
    "Keys",
    "NotRetold",
    "Retold",
    "compared",
    "from_compared",
    "from_logs",
    "from_polled_day",
    "from_source",
    "manner",
    "mount_of",
    "refuse_other_hours",
    "stored",
]

MS = 1000
HOUR_MS = 3600 * MS

REACH_MS = 24 * HOUR_MS
"""Connections so far beside the window are read too: they may belong to a session that touches it."""

SILENT_MS = HOUR_MS
"""Stamps of one log no further apart are one stretch: the mount was silent, the log was not."""

MOST_PULLS = 100_000
"""Of a log that is followed, at 192 KiB each: 19 GB."""


HLS_OPTIONS = ("target_seconds", "segment_seconds", "session_argument")
"""What has to be known of an HLS output to read its log."""


class NotRetold(ListenStatsError):
    """The second source is none that can be heard again, or tells nothing of these hours."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Retold:
    """A telling with what is needed to store its sessions.

    ``mark`` names each session's row of ``marks`` (country, app, exclusion,
    rule). Session ``i`` has the parts ``first_part[i]`` to ``first_part[i + 1]``.
    """

    telling: Telling
    same_keys: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    sessions: sessionize.SessionColumns
    mark: np.ndarray
    marks: Sequence[tuple[str, str, str, str]]


class Keys:
    """Marks of addresses: under the periods' own secrets where all of them are there."""

    def __init__(self, from_ms_: int, to_ms_: int) -> None:
        self._starts, self._secrets = _secrets_of(from_ms_, to_ms_)
        self.are_live = bool(self._secrets)
        if not self.are_live:
            self._starts, self._secrets = [0], [entropy.token_bytes(SECRET_BYTES)]

    def mark(self, address: Address, started_ms: int, stream: str) -> ListenerMark:
        """What is kept of the address of a socket that began then on the stream of this slug."""
        period = max(0, bisect_right(self._starts, started_ms) - 1)
        return recognise.mark(address, Secrets(current=self._secrets[period]), stream)


def _secrets_of(from_ms_: int, to_ms_: int) -> tuple[list[int], list[bytes]]:
    """The starts of the window's periods and their secrets; nothing where one of them is gone."""
    settings = conf.get()
    period = (settings.key_rotation, settings.zone, settings.broadcast_day_start)
    starts = [calendar.period_start(from_ms_, *period)]
    known = {to_ms(row.started): bytes(row.value) for row in Secret.objects.all()}
    for start_ms in sorted(known):
        if starts[-1] < start_ms < to_ms_:
            starts.append(start_ms)
    last_ms = calendar.period_start(to_ms_ - 1, *period)
    if last_ms != starts[-1] or any(start_ms not in known for start_ms in starts):
        return [], []
    return starts, [known[start_ms] for start_ms in starts]


# What is stored ------------------------------------------------------------------------------------


def stored(stream: Stream, from_ms_: int, to_ms_: int, *, source: str = "") -> Telling:
    """The stored sessions that touch the window: those of ``source``, else all that nothing replaced."""
    found = Session.objects.filter(stream=stream).touching(from_ms_, to_ms_)
    found = found.filter(source=source) if source else found.exclude(exclusion=Exclusion.REPLACED)
    columns = list(
        found.order_by("started", "pk").values_list("listener", "started", "ended", "played_ms", "parts", "is_open")
    )
    name = source or stream.source
    interval_ms, tells_at_end = manner(name)
    return Telling(
        name=name,
        listener=_ints(row[0] for row in columns),
        started_ms=_ints(to_ms(row[1]) for row in columns),
        ended_ms=_ints(to_ms(row[2]) for row in columns),
        heard_ms=_ints(_heard_ms(row, from_ms_, to_ms_) for row in columns),
        is_open=np.array([row[5] for row in columns], dtype=np.bool_),
        covered=_covered(stream, from_ms_, to_ms_),
        interval_ms=interval_ms,
        tells_at_end=tells_at_end,
    )


def _covered(stream: Stream, from_ms_: int, to_ms_: int) -> list[tuple[int, int]]:
    found = Coverage.objects.filter(stream=stream, totals_only=False)
    found = found.filter(ended__gte=from_ms(from_ms_ - REACH_MS), started__lte=from_ms(to_ms_ + REACH_MS))
    return run_together((to_ms(one), to_ms(other)) for one, other in found.values_list("started", "ended"))


def compared(stream: Stream, name: str = "") -> Stream | None:
    """The stream that is heard beside this one: by its slug or its source, or the only one. None where none is.

    Raises NotRetold where several are.
    """
    slugs = [
        slug
        for slug, entry in conf.get().streams.items()
        if entry.beside == stream.slug and name in ("", slug, entry.source)
    ]
    if len(slugs) > 1:
        raise NotRetold(
            f"Stream {stream.slug!r} is compared with several: {', '.join(sorted(slugs))}. Name one: --with."
        )
    return Stream.objects.filter(slug__in=slugs).first()


def from_compared(other: Stream, from_ms_: int, to_ms_: int) -> Retold:
    """What ``other`` tells, which is heard beside a stream. Who was there when it was heard last is not told of."""
    heard = _Heard(from_ms=from_ms_, to_ms=to_ms_, keys=Keys(from_ms_, to_ms_))
    near = Session.objects.filter(stream=other, is_open=False).touching(from_ms_ - REACH_MS, to_ms_ + REACH_MS)
    for row in near.exclude(exclusion=Exclusion.REPLACED).order_by("started", "pk"):
        mark = ListenerMark(
            listener=row.listener,
            country=row.country,
            app=row.app,
            exclusion=row.exclusion if row.told_exclusion is None else row.told_exclusion,
            rule=row.rule if row.told_rule is None else row.told_rule,
        )
        started_ms = to_ms(row.started)
        for begin_ms, end_ms in row.parts or [(0, to_ms(row.ended) - started_ms)]:
            heard.take(mark, started_ms + begin_ms, started_ms + end_ms)
    heard.covered = _covered(other, from_ms_, to_ms_)
    retold = heard.retold(other.source)
    interval_ms, _ = manner(other.source)
    return replace(retold, same_keys=True, telling=replace(retold.telling, interval_ms=interval_ms))


def _heard_ms(row: Sequence, from_ms_: int, to_ms_: int) -> int:
    started_ms, ended_ms, parts = to_ms(row[1]), to_ms(row[2]), row[4]
    spans = [(started_ms, ended_ms)] if parts is None else [(started_ms + a, started_ms + b) for a, b in parts]
    return sum(max(0, min(end, to_ms_) - max(start, from_ms_)) for start, end in spans)


def manner(name: str) -> tuple[int, bool]:
    """The time between two polls of the source, 0 where it is told of every socket; and whether it tells at the end."""
    settings = conf.get()
    if name not in settings.sources:
        return 0, True  # an import
    source = registry.source(settings, name)
    source.close()
    if not isinstance(source, PullSource) or not source.follows_open_sessions:
        return 0, not source.follows_open_sessions
    state = SourceState.objects.filter(pk=name).only("cursor").first()
    hears_all = state is not None and state.cursor.get(HEARS_ARRIVALS)
    return 0 if hears_all else round(source.interval_seconds * MS), False


def _ints(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


# What a log tells ----------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Heard:
    """Connections as they come, without their addresses."""

    from_ms: int
    to_ms: int
    keys: Keys
    tells_at_end: bool = True
    listener: list[int] = field(default_factory=list)
    started_ms: list[int] = field(default_factory=list)
    ended_ms: list[int] = field(default_factory=list)
    mark: list[int] = field(default_factory=list)
    marks: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    covered: list[tuple[int, int]] = field(default_factory=list)
    refused_ms: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def is_near(self, started_ms: int, ended_ms: int) -> bool:
        return ended_ms >= self.from_ms - REACH_MS and started_ms <= self.to_ms + REACH_MS

    def take(self, mark: ListenerMark, started_ms: int, ended_ms: int) -> None:
        kept = (mark.country, mark.app, str(mark.exclusion), mark.rule)
        self.listener.append(mark.listener)
        self.started_ms.append(started_ms)
        self.ended_ms.append(ended_ms)
        self.mark.append(self.marks.setdefault(kept, len(self.marks)))

    def cover(self, first_ms: int, last_ms: int) -> None:
        """The log was written all this time; stretches of one log that follow each other soon are one."""
        if first_ms and self.covered and 0 <= first_ms - self.covered[-1][1] <= SILENT_MS:
            first_ms = self.covered.pop()[0]
        if first_ms:
            self.covered.append((first_ms, last_ms))

    def retold(self, name: str) -> Retold:
        """The sessions that touch the window."""
        sessions = sessionize.stitch_columns(
            _ints(self.listener),
            _ints(self.started_ms),
            _ints(self.ended_ms),
            gap_ms=conf.get().rules().gap_seconds * MS,
        )
        telling = Telling(
            name=name,
            listener=sessions.listener,
            started_ms=sessions.started_ms,
            ended_ms=sessions.ended_ms,
            heard_ms=_heard_columns(sessions, self.from_ms, self.to_ms),
            is_open=np.zeros(len(sessions), dtype=np.bool_),
            covered=run_together(self.covered),
            refused_ms=sorted(self.refused_ms),
            tells_at_end=self.tells_at_end,
        )
        return Retold(
            telling=telling,
            same_keys=self.keys.are_live,
            counts=dict(self.counts),
            sessions=sessions,
            mark=_ints(self.mark)[sessions.first_row] if len(sessions) else _ints(()),
            marks=list(self.marks),
        )


def _heard_columns(sessions: sessionize.SessionColumns, from_ms_: int, to_ms_: int) -> np.ndarray:
    inside = np.minimum(sessions.part_ended_ms, to_ms_) - np.maximum(sessions.part_started_ms, from_ms_)
    sums = np.concatenate(([0], np.cumsum(np.maximum(inside, 0))))
    return sums[sessions.first_part[1:]] - sums[sessions.first_part[:-1]]


def from_logs(paths: Sequence[Path], stream: Stream, mount: str, from_ms_: int, to_ms_: int, *, now_ms: int) -> Retold:
    """What logs, of Icecast or of an HLS output, tell of ``stream``, which they call ``mount``.

    Raises NotRetold, SourceUnavailable.
    """
    icecast, hls = _by_kind(paths)
    heard = _Heard(from_ms=from_ms_, to_ms=to_ms_, keys=Keys(from_ms_, to_ms_), tells_at_end=not hls)
    if hls:
        _hear_hls(heard, hls, _hls_source(stream, mount, paths[0]), now_ms)
    else:
        _hear_icecast(heard, icecast, {mount: stream.slug})
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} logs"
    _refuse_unheard(heard.counts, name, mount)
    return heard.retold(name)


def _by_kind(paths: Sequence[Path]) -> tuple[list[LogFile], list[HlsLogFile]]:
    """The logs of Icecast or those of HLS, in the order of time, without empty ones. Raises NotRetold."""
    icecast: list[LogFile] = []
    hls: list[HlsLogFile] = []
    for path in paths:
        log = LogFile(path)
        if log.first_ms():
            icecast.append(log)
        elif (other := HlsLogFile(path)).first_ms():
            hls.append(other)
        elif log.first_line():
            raise NotRetold(
                f"{path.name!r} begins with no line that can be read, neither as Icecast's access log nor as nginx's "
                "log of HLS (JSON or combined). Is it the right file? "
                "docs/sources/accesslog.md and docs/sources/hls.md show the formats."
            )
    if icecast and hls:
        raise NotRetold(
            f"{icecast[0].label!r} is Icecast's log and {hls[0].label!r} one of HLS. Name logs of one kind with --log."
        )
    if not icecast and not hls:
        raise NotRetold(f"{', '.join(path.name for path in paths)}: no line yet. Name the rotated ones with --log too.")
    return sorted(icecast, key=lambda one: one.first_ms()), sorted(hls, key=lambda one: one.first_ms())


def _hear_icecast(heard: _Heard, logs: Sequence[LogFile], mounts: Mapping[str, str]) -> None:
    (slug,) = mounts.values()
    for log in logs:
        offset = 0
        for chunk in log.chunks(mounts, offset=0):
            heard.counts.update(chunk.counts)
            heard.cover(chunk.first_ms, chunk.last_ms)
            if any(name.startswith("refused_") for name in chunk.counts):
                heard.refused_ms += log.refused_ends(offset, chunk.offset)
            offset = chunk.offset
            if chunk.last_ms < heard.from_ms - REACH_MS:
                continue  # a log is in the order of ends
            for started_ms, ended_ms, who in zip(chunk.started_ms, chunk.ended_ms, chunk.who, strict=True):
                if heard.is_near(started_ms, ended_ms):
                    heard.take(heard.keys.mark(chunk.addresses[who], started_ms, slug), started_ms, ended_ms)


def _hear_hls(heard: _Heard, logs: Sequence[HlsLogFile], source: HlsSource, now_ms: int) -> None:
    reader, limit = LogReader(source, now_ms), BATCH_REQUESTS
    for log in logs:
        if log.first_ms() < reader.settled_ms:  # of another server, of the same hours
            _take_stretches(heard, reader.finished(None))
            reader, limit = LogReader(source, now_ms), BATCH_REQUESTS
        for lines, _ in log.lines():
            for line in lines or ():
                reader.read(line)
            became = reader.take_lines()
            heard.counts.update(became.by_reason)
            if became.first_ms:  # what was asked for last is heard for one window more
                heard.cover(became.first_ms, became.last_ms + source.target_ms)
            if len(reader) >= limit:
                _take_stretches(heard, reader.finished(reader.settled_ms))
                limit = BATCH_REQUESTS + len(reader)
    _take_stretches(heard, reader.finished(None))


def _take_stretches(heard: _Heard, found: FinishedStretches) -> None:
    columns = (found.started_ms.tolist(), found.ended_ms.tolist(), found.who.tolist())
    for slug, started_ms, ended_ms, who in zip(found.stream, *columns, strict=True):
        if heard.is_near(started_ms, ended_ms):
            heard.take(heard.keys.mark(found.addresses[who], started_ms, slug), started_ms, ended_ms)


def _hls_source(stream: Stream, mount: str, path: Path) -> HlsSource:
    """What reads a log of HLS: as the stream's own source would, else as the one other that hears HLS.

    Raises NotRetold, ConfigurationError.
    """
    settings = conf.get()
    known = {
        name: {option: entry.options[option] for option in HLS_OPTIONS if option in entry.options}
        for name, entry in settings.sources.items()
        if HLS_OPTIONS[0] in entry.options
    }
    own = [known[stream.source]] if stream.source in known else list(known.values())
    if not own or any(one != own[0] for one in own):
        raise NotRetold(
            f"{path.name!r} is a log of HLS, and its target_seconds are unknown: "
            + (f"{', '.join(sorted(known))} have different ones." if own else "no source of SOURCES has them.")
            + " Name the source that follows this log in SOURCES (docs/sources/hls.md), and compare by --with."
        )
    options = {**own[0], "path": str(path.absolute())}
    return HlsSource(stream.source, {mount: stream.slug}, options, trusted_proxies=settings.trusted_proxies)


def _refuse_unheard(counts: Mapping[str, int], name: str, mount: str) -> None:
    """Raises NotRetold where no line could be read, or none is of the stream: that is no silence to compare with."""
    read = counts.get("read", 0)
    told = {reason: count for reason, count in counts.items() if reason.startswith(("refused_", "skipped_")) and count}
    reasons = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in sorted(told.items()))
    if not read:
        raise NotRetold(f"{name!r} has no line yet. Rotated logs, compressed ones too, can be named with --log.")
    if read == sum(count for reason, count in told.items() if reason.startswith("refused_")):
        raise NotRetold(f"None of the {read} lines of {name!r} can be read ({reasons}). Is it the right file?")
    if not counts.get("kept"):
        raise NotRetold(
            f"None of the {read} lines of {name!r} is listening to {mount!r} ({reasons}). "
            "If the log calls the stream otherwise, say so with --mount."
        )


def refuse_other_hours(told: Telling, from_ms_: int, to_ms_: int) -> None:
    """Raises NotRetold where nothing of the window was observed."""
    if any(start_ms < to_ms_ and end_ms > from_ms_ for start_ms, end_ms in told.covered):
        return
    stretches = ", ".join(f"{from_ms(a):%Y-%m-%d %H:%M} to {from_ms(b):%Y-%m-%d %H:%M}" for a, b in told.covered)
    raise NotRetold(
        f"{told.name!r} tells nothing of these hours: it observed {stretches or 'nothing'} (UTC). "
        "Rotated logs, compressed ones too, can be named with --log."
    )


def from_polled_day(day: PolledDay, name: str, slug: str) -> Retold:
    """What a file of polled addresses tells. Its location ``N/A`` is kept as the rule 'shared address', which excludes
    nobody: as many listened, or more.
    """
    start_ms, end_ms = day.span_ms
    heard = _Heard(from_ms=start_ms, to_ms=end_ms, keys=Keys(start_ms, end_ms))
    heard.counts.update(day.counts)
    heard.covered.append((start_ms, end_ms))
    for listener in day.listeners:
        for started_ms, ended_ms in listener.sessions:
            mark = heard.keys.mark(listener.address, started_ms, slug)
            if listener.is_shared and not mark.exclusion:
                mark = replace(mark, rule=SHARED_ADDRESS)
            heard.take(mark, started_ms, ended_ms)
    return heard.retold(name)


def from_source(stream: Stream, name: str, mount: str, from_ms_: int, to_ms_: int, *, now_ms: int) -> Retold:
    """What the configured source ``name``, which follows a log, tells of ``stream``, which it calls ``mount``.

    Its log is read with what was rotated away from it and is not compressed; its cursor in the database is
    neither read nor moved. Raises NotRetold, SourceUnavailable.
    """
    source = _follower(stream, name, mount)
    source.start_from(from_ms_ - REACH_MS)
    heard = _Heard(
        from_ms=from_ms_, to_ms=to_ms_, keys=Keys(from_ms_, to_ms_), tells_at_end=not source.follows_open_sessions
    )
    latest: dict[tuple[str, int], Observation] = {}
    cursor: Mapping = {}
    numbers = itertools.count()
    try:
        for _ in range(MOST_PULLS):
            report = source.pull(cursor, now_ms=now_ms)
            cursor = dict(report.cursor or {})
            heard.counts.update(report.counts)
            for one in report.heard:
                heard.cover(one.started_ms, one.ended_ms)
            for told in report.observations:
                if heard.is_near(told.started_ms, told.seen_ms):
                    _merge(latest, told, next(numbers))
            if not report.more or min((one.ended_ms for one in report.heard), default=0) > to_ms_ + REACH_MS:
                break
    finally:
        source.close()
    _refuse_unheard(heard.counts, name, mount)
    for told in latest.values():
        mark = told.mark or (heard.keys.mark(told.address, told.started_ms, stream.slug) if told.address else None)
        if mark is not None:
            heard.take(mark, told.started_ms, max(told.seen_ms, told.started_ms))
    return heard.retold(name)


def _follower(stream: Stream, name: str, mount: str) -> FollowedLog:
    """The configured source, made anew for this stream alone. Raises NotRetold where it follows no log."""
    settings = conf.get()
    kinds = {one: registry.backend(entry.backend) for one, entry in settings.sources.items()}
    kind = kinds.get(name)
    if kind is None or not issubclass(kind, FollowedLog):
        followed = ", ".join(sorted(one for one, other in kinds.items() if issubclass(other, FollowedLog))) or "none"
        raise NotRetold(
            f"Source {name!r} follows no log, so it cannot be heard a second time. Those that do: {followed}. "
            "A log file can be named with --log; another source can hear the stream beside it (docs/reconcile.md)."
        )
    options = settings.sources[name].options
    return kind(name, {mount: stream.slug}, options, trusted_proxies=settings.trusted_proxies)


def mount_of(stream: Stream) -> str:
    """What the stream's own source calls it."""
    given = conf.get().streams.get(stream.slug)
    return (given.mount if given else "") or f"/{stream.slug}"


def _merge(latest: dict[tuple[str, int], Observation], told: Observation, number: int) -> None:
    """Keeps what was last told of a socket; a line without a socket's number is one by itself."""
    name = (told.client, told.started_ms) if told.client is not None else ("", number)
    before = latest.get(name)
    if before is None or told.seen_ms >= before.seen_ms:
        latest[name] = told
