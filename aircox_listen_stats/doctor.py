"""An examination of the whole installation, one finding after the other. Shows no address, path or token."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.core import checks as django_checks
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Count, Max

from . import conf
from .errors import ListenStatsError, SourceUnavailable
from .fields import from_ms, to_ms
from .models import (
    Coverage,
    DeadLetter,
    Inbox,
    IngestToken,
    Lease,
    Letter,
    LetterSubscription,
    MonitorWatch,
    SourceState,
    StaleWindow,
    Stream,
)
from .onair import aircox
from .pipeline import journal, lease, session_index, streams
from .reports import blurs
from .sources import registry
from .sources.base import PullSource, Report, Source
from .sources.stream_events import StreamEventsSource

MS = 1000
MINUTE_MS = 60 * MS
DAY_MS = 24 * 60 * MINUTE_MS

CLOCK_TOLERANCE_MS = 2 * MS
"""A Date header tells whole seconds; more than this apart, starts and ends are wrong by as much."""

CHECKS = "aircox_listen_stats"
"""The tag of our system checks."""

BLURRED = {
    blurs.Reason.ADDRESS: (
        "{most} of {compared} listeners of the last hour come from one address: those behind it cannot be told apart, "
        "and distinct listeners are at least as many as are counted.",
        "A proxy of yours: name it in TRUSTED_PROXIES and let it tell who asks (“Behind a proxy” in "
        "docs/sources/icecast.md). A relay: name it in the stream's 'relays', or in EXCLUDE['relay_networks'], and "
        "hear its own server too.",
    ),
    blurs.Reason.PROXY: (
        "of {most} of {compared} sockets of the last hour only your own proxy's address is known: listeners behind it "
        "cannot be told apart, and distinct ones are at least as many as are counted.",
        "Let the proxy tell who asks, in callbacks or in its own log: “Behind a proxy” in docs/sources/icecast.md.",
    ),
    blurs.Reason.SOURCE: (
        "its source takes several listeners for one: figures are lower bounds.",
        "See its page in docs/sources. Icecast's own list, or the server's access log, tells them apart.",
    ),
}
"""What is said of streams whose listeners cannot be told apart, and how to mend it."""

SILENT_MS = 5 * MINUTE_MS
WAITING_ROWS = 5_000
LATE_LETTER_MS = 60 * MINUTE_MS
ASK_SECONDS = 5.0
LAYER_SECONDS = 3.0


class Grade(StrEnum):
    WELL = "well"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at, and how to mend it where it is not well."""

    grade: Grade
    subject: str
    text: str
    mend: str = ""


Findings = Iterator[Finding]


def examine(*, now_ms: int) -> Findings:
    """Everything, in the order in which things depend on each other. Asks each source once; stores nothing."""
    yield from _checks()
    try:
        settings = conf.get()
    except ListenStatsError:
        return  # the checks have told it, and nothing else can be asked
    parts: tuple[tuple[str, Callable[[], Findings]], ...] = (
        ("database", _database),
        ("aircox", _aircox),
        ("streams", lambda: _streams(settings)),
        ("sources", lambda: _sources(settings, now_ms)),
        ("collector", lambda: _collector(settings, now_ms)),
        ("backlog", lambda: _backlog(now_ms)),
        ("callback journals", lambda: _journals(settings)),
        ("letters", lambda: _letters(settings, now_ms)),
        ("coverage", lambda: _coverage(now_ms)),
        ("listeners", lambda: _told_apart(now_ms)),
        ("monitor hook", lambda: _hook(settings, now_ms)),
        ("live count", _channel_layer),
    )
    for subject, look in parts:
        try:
            yield from look()
        except (DatabaseError, ListenStatsError) as error:
            yield Finding(
                grade=Grade.ERROR,
                subject=subject,
                text=f"could not be examined ({type(error).__name__}).",
                mend="Run ./manage.py migrate, then ask again.",
            )


def _checks() -> Findings:
    grades = {
        django_checks.ERROR: Grade.ERROR,
        django_checks.CRITICAL: Grade.ERROR,
        django_checks.WARNING: Grade.WARNING,
    }
    found = django_checks.run_checks(tags=[CHECKS])
    for one in found:
        if not one.is_silenced():
            grade = grades.get(one.level, Grade.NOTE)
            yield Finding(grade=grade, subject=f"check {one.id}", text=one.msg, mend=one.hint or "")
    if not found:
        yield Finding(grade=Grade.WELL, subject="settings", text="valid, and nothing to warn of.")


def _database() -> Findings:
    for name in session_index.missing():
        yield Finding(
            grade=Grade.WARNING,
            subject="database",
            text=f"index {name} of the sessions is missing: every figure takes long. An import leaves it out while it "
            "fills an empty table; this one was stopped.",
            mend="Run the import again, or start listen_stats_collect: both make it.",
        )
    if connection.vendor == "postgresql":
        asked_ms = _now_ms()
        with connection.cursor() as cursor:
            cursor.execute("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint")
            told_ms = cursor.fetchone()[0]
        off_ms = _apart(told_ms, told_ms, asked_ms)
        if abs(off_ms) > CLOCK_TOLERANCE_MS:
            yield _clock("database", off_ms)
    elif connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            mode = cursor.fetchone()[0]
        if mode != "wal":
            yield Finding(
                grade=Grade.WARNING,
                subject="database",
                text=f"SQLite in journal mode {mode!r}: readers and the writer wait for each other, the playout too.",
                mend="Once, in ./manage.py dbshell: PRAGMA journal_mode=WAL; or use PostgreSQL.",
            )


def _aircox() -> Findings:
    stations = aircox.log().stations()
    if not stations:
        yield Finding(
            grade=Grade.ERROR,
            subject="aircox",
            text="has no station.",
            mend="Create one in the admin, with 'default' ticked.",
        )
        return
    names = ", ".join(one.slug + (" (default)" if one.is_default else "") for one in stations)
    yield Finding(grade=Grade.WELL, subject="aircox", text=f"found, stations: {names}.")


def _streams(settings: conf.Settings) -> Findings:
    if not settings.streams:
        yield Finding(
            grade=Grade.ERROR,
            subject="streams",
            text="none is configured, so nothing is counted.",
            mend="Add STREAMS to AIRCOX_LISTEN_STATS (docs/settings.md).",
        )
    log = aircox.log()
    known = streams.by_slug()
    for slug, one in settings.streams.items():
        owner = log.default_station() if one.station is None else log.station(one.station)
        if streams.is_other_kind(known.get(slug), one):
            yield Finding(
                grade=Grade.ERROR,
                subject=f"stream {slug}",
                text=f"{'counted' if one.beside else 'was only compared'} until now: it is not heard, since its "
                f"listening would {'be gone' if one.beside else 'count twice'}.",
                mend="Give it a slug of its own in STREAMS, and leave the old one to its sessions.",
            )
        elif owner is None and not one.beside:
            yield Finding(
                grade=Grade.ERROR,
                subject=f"stream {slug}",
                text="no station owns it.",
                mend=f"Set its 'station'. Known: {', '.join(station.slug for station in log.stations()) or 'none'}.",
            )
        elif slug not in known or not known[slug].active:
            yield Finding(
                grade=Grade.NOTE, subject=f"stream {slug}", text="is new: the collector takes it up when it starts."
            )


def _sources(settings: conf.Settings, now_ms: int) -> Findings:
    for name in settings.sources:
        try:
            source = registry.source(settings, name)
        except ListenStatsError:
            continue  # the checks have told it
        try:
            yield from _source(source, settings.sources[name].options, now_ms)
        finally:
            source.close()


def _source(source: Source, options: Any, now_ms: int) -> Findings:
    subject = f"source {source.name}"
    state = SourceState.objects.filter(pk=source.name).first()
    if isinstance(source, StreamEventsSource):
        yield from _stream_events(source, state, now_ms)
        return
    if not isinstance(source, PullSource):
        heard = state.heard if state else None
        yield Finding(
            grade=Grade.WELL if heard else Grade.WARNING,
            subject=subject,
            text=f"last told something {_ago(now_ms, to_ms(heard))}." if heard else "has never told anything.",
            mend=""
            if heard
            else "Check the address in icecast.xml, and that listener_remove reaches it (docs/sources).",
        )
        return
    try:
        report = source.pull({}, now_ms=now_ms)
    except SourceUnavailable as error:
        yield Finding(
            grade=Grade.ERROR, subject=subject, text=str(error), mend="See docs/operations.md, “A source is down”."
        )
        return
    heard = len(report.observations)
    yield Finding(grade=Grade.WELL, subject=subject, text=f"answers; {heard} sockets or lines in this answer.")
    yield from _refused(subject, report)
    if isinstance(options.get("url"), str):
        yield from _server_clock(subject, options["url"])


def _stream_events(source: StreamEventsSource, state: SourceState | None, now_ms: int) -> Findings:
    subject = f"source {source.name}"
    told_ms = state.cursor.get("told_ms", 0) if state else 0
    if told_ms:
        yield Finding(grade=Grade.WELL, subject=subject, text=f"was last told of events {_ago(now_ms, told_ms)}.")
    else:
        good = IngestToken.objects.filter(source=source.name, revoked=None).exists()
        yield Finding(
            grade=Grade.WARNING,
            subject=subject,
            text="was never told of an event" + ("." if good else ", and no token lets anybody."),
            mend="Try the curl example of docs/sources/stream_events.md from the shipper's machine."
            if good
            else f"./manage.py listen_stats_token create NAME --source {source.name}",
        )
    letters = DeadLetter.objects.filter(source=source.name).count()
    if letters:
        yield Finding(
            grade=Grade.NOTE,
            subject=subject,
            text=f"{letters} events were refused and wait to be mended or dropped.",
            mend=f"./manage.py listen_stats_deadletters list --source {source.name}",
        )


def _refused(subject: str, report: Report) -> Findings:
    refused = {reason: count for reason, count in report.counts.items() if "refused" in reason and count}
    if refused:
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
        yield Finding(grade=Grade.NOTE, subject=subject, text=f"some of what it says cannot be used: {counts}.")


def _told_apart(now_ms: int) -> Findings:
    """What the collector, and web processes that are told of listeners, found while they had the addresses."""
    slugs = dict(Stream.objects.active().values_list("id", "slug"))
    for one in blurs.now_of(slugs, now=from_ms(now_ms)):
        text, mend = BLURRED[one.why]
        yield Finding(
            grade=Grade.NOTE if one.why == blurs.Reason.SOURCE else Grade.WARNING,
            subject=f"stream {slugs[one.stream_id]}",
            text=text.format(most=one.most, compared=one.compared),
            mend=mend,
        )


def _server_clock(subject: str, url: str) -> Findings:
    asked_ms = _now_ms()
    try:
        answer = httpx.get(url, timeout=ASK_SECONDS, trust_env=False, follow_redirects=False)
        told_ms = round(email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()) * MS
    except (httpx.HTTPError, KeyError, ValueError):
        yield Finding(
            grade=Grade.NOTE, subject=subject, text="its clock could not be compared: no Date in its answers."
        )
        return
    off_ms = _apart(told_ms, told_ms + MS, asked_ms)  # whole seconds are told
    if abs(off_ms) > CLOCK_TOLERANCE_MS:
        yield _clock(subject, off_ms)
    else:
        yield Finding(grade=Grade.WELL, subject=subject, text="its clock agrees with ours.")


def _apart(first_ms: int, last_ms: int, asked_ms: int) -> int:
    """How far a clock that showed an instant from the first to the last is ahead of ours; negative: behind.

    It was read at some moment since we asked; however long the answer took, it is no clock's fault.
    """
    return max(0, first_ms - _now_ms()) + min(0, last_ms - asked_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _clock(subject: str, off_ms: int) -> Finding:
    return Finding(
        grade=Grade.ERROR,
        subject=subject,
        text=f"its clock is {abs(off_ms) / MS:.1f} s {'ahead of' if off_ms > 0 else 'behind'} ours: "
        "listening would be laid over the wrong minutes.",
        mend="Let both machines keep time by NTP (timedatectl set-ntp true).",
    )


def _collector(settings: conf.Settings, now_ms: int) -> Findings:
    row = Lease.objects.filter(pk=lease.COLLECTOR).first()
    if row is None or to_ms(row.expires) < now_ms:
        since = "has never run" if row is None else f"was last seen {_ago(now_ms, to_ms(row.heartbeat))}"
        yield Finding(
            grade=Grade.ERROR,
            subject="collector",
            text=f"is not running ({since}): nobody is counted.",
            mend="systemctl start listen-stats, or ./manage.py listen_stats_collect; see docs/operations.md.",
        )
    else:
        yield Finding(
            grade=Grade.WELL, subject="collector", text=f"is active, seen {_ago(now_ms, to_ms(row.heartbeat))}."
        )
        for what, trouble in sorted(row.progress.get("trouble", {}).items()):
            yield Finding(grade=Grade.ERROR, subject="collector", text=f"has trouble with the {what}: {trouble}.")
    for state in SourceState.objects.filter(failures__gt=0, pk__in=list(settings.sources)):
        yield Finding(
            grade=Grade.ERROR,
            subject=f"source {state.source}",
            text=f"failed {state.failures} times in a row for the collector: {state.error}",
        )


def _backlog(now_ms: int) -> Findings:
    for name, count in (("windows to compute", StaleWindow.objects.count()), ("callbacks", Inbox.objects.count())):
        if count > WAITING_ROWS:
            yield Finding(
                grade=Grade.WARNING,
                subject="backlog",
                text=f"{count} {name} wait.",
                mend="Is the collector active? After a large import it works them off, newest first.",
            )


def _letters(settings: conf.Settings, now_ms: int) -> Findings:
    if not settings.letters.enabled:
        return
    counts = dict(Letter.objects.order_by().values_list("state").annotate(Count("pk")))
    late = Letter.objects.filter(state=Letter.State.WAITING, queued__lt=from_ms(now_ms - LATE_LETTER_MS)).count()
    error = Letter.objects.exclude(error="").order_by("-changed", "-pk").values_list("error", flat=True).first()
    if counts.get(Letter.State.DEAD):
        yield Finding(
            grade=Grade.ERROR,
            subject="letters",
            text=f"{counts[Letter.State.DEAD]} were given up; the last trouble: {error or 'none'}.",
            mend="Mend the mail settings (try ./manage.py sendtestemail), then run "
            "./manage.py listen_stats_letters --retry.",
        )
    if counts.get(Letter.State.DOUBTFUL):
        yield Finding(
            grade=Grade.NOTE,
            subject="letters",
            text=f"{counts[Letter.State.DOUBTFUL]} perhaps arrived: the line to the mail server broke meanwhile.",
            mend="Where a producer misses one: ./manage.py listen_stats_letters --retry-doubtful.",
        )
    if late:
        yield Finding(
            grade=Grade.WARNING,
            subject="letters",
            text=f"{late} have waited for more than an hour; the last trouble: {error or 'none'}.",
            mend="Is the collector active, and the mail server of EMAIL_HOST? Try ./manage.py sendtestemail.",
        )
    if not late and not counts.get(Letter.State.DEAD):
        wanted = LetterSubscription.objects.count()
        yield Finding(
            grade=Grade.WELL,
            subject="letters",
            text=f"asked for {wanted} times; {counts.get(Letter.State.SENT, 0)} sent so far.",
        )


def _journals(settings: conf.Settings) -> Findings:
    if not settings.callback_tokens or journal.trouble(journal.folder(settings)):
        return  # the checks have told it
    found = journal.waiting()
    if found.dead_bytes:
        yield Finding(
            grade=Grade.WARNING,
            subject="callback journals",
            text=f"{found.dead} of processes that ended wait, with {found.dead_bytes / 1000:.0f} kB of callbacks.",
            mend="The collector takes them every few seconds. Does it run, on this machine and as this account?",
        )
    else:
        yield Finding(grade=Grade.WELL, subject="callback journals", text=f"can be written; {found.living} in use.")


def _coverage(now_ms: int) -> Findings:
    since_ms = now_ms - DAY_MS
    of_totals = {state.source for state in SourceState.objects.all() if SourceState.TOTALS in state.cursor}
    for stream in Stream.objects.active():
        if stream.source in of_totals:
            seconds = sum(
                (min(to_ms(row.ended), now_ms) - max(to_ms(row.started), since_ms)) / 1000
                for row in Coverage.objects.filter(stream=stream, totals_only=True, ended__gt=from_ms(since_ms))
            )
            yield Finding(
                grade=Grade.NOTE,
                subject=f"stream {stream.slug}",
                text="is known by totals alone: a live count, and no audience of any program. They were heard for "
                f"{seconds / 3600:.1f} of the last 24 hours.",
                mend="A source that tells listeners apart gives both: docs/sources.",
            )
            continue
        spans = [
            (max(to_ms(row.started), since_ms), min(to_ms(row.ended), now_ms))
            for row in Coverage.objects.filter(stream=stream, totals_only=False, ended__gt=from_ms(since_ms)).order_by(
                "started"
            )
        ]
        if not spans:
            yield Finding(
                grade=Grade.WARNING, subject=f"stream {stream.slug}", text="was not observed in the last 24 hours."
            )
            continue
        begun_ms = spans[0][0]
        observed_ms = sum(end - start for start, end in spans)
        share = observed_ms / max(1, now_ms - begun_ms)
        holes = len(spans) - 1
        yield Finding(
            grade=Grade.WELL if share > 0.99 else Grade.WARNING,
            subject=f"stream {stream.slug}",
            text=f"observed for {share:.1%} of the last {(now_ms - begun_ms) / 3_600_000:.1f} hours, "
            f"with {holes} {'hole' if holes == 1 else 'holes'}.",
            mend="" if share > 0.99 else "Holes are unknown, not zero. The collector's log says what failed when.",
        )


def _hook(settings: conf.Settings, now_ms: int) -> Findings:
    if not settings.monitor_hook:
        yield Finding(
            grade=Grade.NOTE,
            subject="monitor hook",
            text="is off: ends are taken from aircox's rows and plans.",
            mend="Set MONITOR_HOOK to True and restart the streamer, and ends and gaps are observed (docs/onair.md).",
        )
        return
    seen = MonitorWatch.objects.aggregate(last=Max("seen"))["last"]
    if seen is None or to_ms(seen) < now_ms - SILENT_MS:
        yield Finding(
            grade=Grade.WARNING,
            subject="monitor hook",
            text="has never beaten." if seen is None else f"last beat {_ago(now_ms, to_ms(seen))}.",
            mend="Restart aircox's streamer (./manage.py streamer -m) so that it runs with this app.",
        )
    else:
        yield Finding(grade=Grade.WELL, subject="monitor hook", text=f"beats; last {_ago(now_ms, to_ms(seen))}.")


def _channel_layer() -> Findings:
    layer = get_channel_layer()
    if layer is None or isinstance(layer, InMemoryChannelLayer):
        yield Finding(
            grade=Grade.NOTE,
            subject="live count",
            text="no channel layer between processes; web processes ask the database once a second.",
        )
        return
    try:
        asyncio.run(asyncio.wait_for(_round_trip(layer), LAYER_SECONDS))
    except Exception as error:  # noqa: BLE001 - layers raise what their libraries raise
        yield Finding(
            grade=Grade.ERROR,
            subject="live count",
            text=f"the channel layer does not pass a message on ({type(error).__name__}).",
            mend="Is Redis running, and does CHANNEL_LAYERS name it? Until then web processes ask the database.",
        )
    else:
        yield Finding(grade=Grade.WELL, subject="live count", text="the channel layer passes messages on.")


async def _round_trip(layer: Any) -> None:
    channel = await layer.new_channel("listen_stats.doctor")
    await layer.send(channel, {"type": "doctor"})
    await layer.receive(channel)


def _ago(now_ms: int, instant_ms: int) -> str:
    seconds = max(0, now_ms - instant_ms) / MS
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
