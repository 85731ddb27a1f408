"""The collector: hears every source, keeps the timeline and the figures, tells the live count.

Threads do the pulling, which is waiting; one thread does all writing. Any
number of collectors may run, one of them holds the lease and works.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from django.db import close_old_connections

from ..errors import SourceUnavailable, place_of
from ..fields import from_ms, to_ms
from ..kernel.types import Layer
from ..models import Audience, Inbox, SourceState, StaleWindow, Stream
from ..onair.base import OnAirLog
from ..querysets import NO_STATION
from ..sources.base import PullSource, Report, Source
from ..sources.stream_events import StreamEventsSource
from . import (
    blurs,
    cumes,
    inbox,
    journal,
    lateness,
    lease,
    letters,
    players,
    quarters,
    retention,
    rollup,
    session_index,
    shares,
    stream_events,
    streams,
    timeline,
    windows,
)
from .ingest import Ingested, run_together, store
from .live import Publisher

log = logging.getLogger(__name__)

MS = 1000
HOUR_MS = 3600 * MS
DAY_MS = 24 * HOUR_MS

TICK_SECONDS = 0.5
"""How often a callback is looked for: half of what a live count may lag behind."""

PULL_THREADS = 4
"""Pulls wait for servers; a slow one must not hold up the others."""

LONGEST_BACK_OFF_SECONDS = 60.0
"""A source that is down is asked at least so often, so that its return is noticed soon."""

TAKE_OVER_MS = 2 * MS
"""How often a standby looks whether the lease is free."""

SLIDING_MS = 2 * HOUR_MS
"""aircox corrects its past: rows of the last two hours are read again and again."""

AHEAD_MS = 15 * 60 * MS
"""How far the timeline looks ahead: a diffusion that begins soon is on air in time."""

TIMELINE_EVERY_MS = 30 * MS
DEBOUNCE_MS = 5 * MS
RUNNING_EVERY_MS = 30 * MS
SETTLE_EVERY_MS = 5 * 60 * MS
SETTLE_BACK_MS = 14 * DAY_MS
"""An airing that could not settle for two weeks is left to listen_stats_rebuild."""
DAYS_EVERY_MS = 10 * 60 * MS
"""How old the cume and the shares of the running day may be: all sessions of the day are read, which takes a moment."""
DAYS_AGAIN_EVERY_MS = HOUR_MS
DAYS_AGAIN_MS = 3 * DAY_MS
"""The days that are counted again each hour: nearly all that is told late is of them."""
HEALTH_EVERY_MS = 60 * MS
STREAMS_EVERY_MS = 5 * 60 * MS
PLAYERS_EVERY_MS = 2 * MS
"""Players that are a stream's source are in the live count after this long."""
JOURNALS_EVERY_MS = 5 * MS
LETTERS_EVERY_MS = 60 * MS


@dataclass(slots=True)
class _Ear:
    """Where one source stands in this run."""

    source: Source
    cursor: Mapping[str, Any] | None = None  # None: not read yet
    due_ms: int = 0
    pulling: Future[Report] | None = None
    asked_ms: int = 0
    failures: int = 0

    @property
    def name(self) -> str:
        return self.source.name


@dataclass(slots=True)
class _Due:
    """When each of the regular works is next due; 0 is now."""

    at_ms: dict[str, int] = field(default_factory=dict)

    def is_due(self, work: str, every_ms: int, now_ms: int) -> bool:
        due_ms = self.at_ms.get(work, 0)
        if due_ms - now_ms > every_ms:  # the clock went back
            due_ms = 0
        if now_ms < due_ms:
            return False
        self.at_ms[work] = now_ms + every_ms
        return True


class Collector:
    """One collector. ``step()`` does what is due; ``run()`` steps until it is told to stop.

    ``sources`` and ``onair`` are handed in, so that a demonstration or a test
    can hand in its own. Everything that is worth knowing after a crash is in
    the database.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        onair: OnAirLog,
        holder: str | None = None,
        publisher: Publisher | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.ears = {name: _Ear(source) for name, source in sources.items()}
        self.onair = onair
        self.holder = holder or f"{socket.gethostname()}:{os.getpid()}:{random.randrange(1 << 16):04x}"[-128:]
        self.publisher = publisher or Publisher()
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)
        self.is_active = False
        self._threads: ThreadPoolExecutor | None = None
        self._postman: ThreadPoolExecutor | None = None
        self._posting: Future[Any] | None = None
        self._post_no_more = threading.Event()
        self._due = _Due()
        self._put_off = windows.PutOff()
        self._counts: dict[str, int] = {}
        self._trouble: dict[str, str] = {}
        self._stations: list[int] = []
        self._begun = (0, 0)  # the step's instant, and the monotonic one of the same moment

    # Running ------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Steps until ``stop`` is set, then ends cleanly: what is begun is finished, the lease let go."""
        log.info("Collector %s starts with %d sources.", self.holder, len(self.ears))
        try:
            while not stop.is_set():
                self.step(now_ms=self.clock())
                stop.wait(TICK_SECONDS)
        finally:
            self.close()

    def step(self, *, now_ms: int) -> None:
        """Does what is due. One source's or one station's trouble is noted and stops nothing else."""
        close_old_connections()
        self._begun = (now_ms, _monotonic_ms())
        self._guard("lease", lambda: self._hold(now_ms))
        with lease.writing_as(lease.COLLECTOR, self.holder):
            for part in self._parts(now_ms):
                if not self.is_active:
                    return
                part()
                self._stay()

    def _stay(self) -> None:
        """Renews the lease between two parts of a step that takes long."""
        if self.is_active:
            at_ms = self._now()
            self._guard("lease", lambda: self._hold(at_ms))

    def _parts(self, now_ms: int) -> Iterator[Callable[[], object]]:
        """The works of one step, in their order."""
        yield lambda: self._keep_streams(now_ms)
        yield lambda: self._hear_players(now_ms)
        yield lambda: self._take_journals(now_ms)
        for ear in self.ears.values():
            yield lambda ear=ear: self._guard(f"source {ear.name}", lambda: self._hear(ear, now_ms))
        for station_id in self._stations:
            yield lambda one=station_id: self._keep_timeline(one, now_ms)
            yield lambda one=station_id: self._keep_audience(one, now_ms)
            yield lambda one=station_id: self._keep_days("cumes", cumes, one, now_ms)
            yield lambda one=station_id: self._keep_days("shares", shares, one, now_ms)
            yield lambda one=station_id: self._guard(
                f"live count of station {one}", lambda: self.publisher.publish(one, now_ms=now_ms)
            )
        yield lambda: self._keep_blurs(now_ms)
        yield lambda: self._keep_letters(now_ms)
        yield lambda: self._keep_house(now_ms)

    def _take_journals(self, now_ms: int) -> None:
        """Takes the callbacks that killed web processes left."""
        if self._due.is_due("journals", JOURNALS_EVERY_MS, now_ms):
            self._guard("callback journals", journal.adopt)

    def _hear_players(self, now_ms: int) -> None:
        def take() -> None:
            if players.refresh(self.onair, now_ms=now_ms).more:
                self._due.at_ms["web players"] = now_ms

        if self._due.is_due("web players", PLAYERS_EVERY_MS, now_ms):
            self._guard("web players", take)

    def _keep_streams(self, now_ms: int) -> None:
        if self._due.is_due("streams", STREAMS_EVERY_MS, now_ms) and not self._guard("streams", self._sync_streams):
            self._due.at_ms["streams"] = now_ms + 5 * MS

    def _keep_blurs(self, now_ms: int) -> None:
        """Looks whether listeners can be told apart, by what was heard of them since this process started."""

        def look() -> None:
            blurs.look(now_ms=now_ms)
            joining = [ear.name for ear in self.ears.values() if ear.source.joins_listeners]
            blurs.look_at_sources(joining, now_ms=now_ms)

        if self._due.is_due("shared addresses", blurs.LOOK_EVERY_MS, now_ms):
            self._guard("shared addresses", look)

    def _keep_letters(self, now_ms: int) -> None:
        """Queues the letters about what has settled. Another thread sends them: a mail server may take its time."""
        if self._posting is not None and self._posting.done():
            posted, self._posting = self._posting, None
            self._guard("letters", lambda: _tell_of_letters(posted.result()))
        if self._posting is None and self._due.is_due("letters", LETTERS_EVERY_MS, now_ms):
            self._guard("queue of letters", lambda: letters.queue(now_ms=now_ms))
            self._guard("queue of letters", lambda: self._post(now_ms))

    def _post(self, now_ms: int) -> None:
        if not letters.is_due(now_ms=now_ms):
            return
        if self._postman is None:
            self._postman = ThreadPoolExecutor(1, thread_name_prefix="listen-stats-letters")
        self._post_no_more.clear()
        self._posting = self._postman.submit(letters.in_thread, clock=self._now, stop=self._post_no_more)

    def _keep_house(self, now_ms: int) -> None:
        if self._due.is_due("prune", DAY_MS, now_ms):
            self._guard("session index", session_index.make_missing)
            self._guard("retention", lambda: retention.prune(now_ms=now_ms))
        if self._due.is_due("close cumes", DAYS_AGAIN_EVERY_MS, now_ms):
            self._guard(
                "weeks and months", lambda: cumes.close_periods(now_ms=now_ms, rule_sets=rollup.every_rule_set())
            )
        if self._due.is_due("health", HEALTH_EVERY_MS, now_ms):
            self._guard("health", self._tell_health)

    def close(self) -> None:
        """Lets everything go. Pulls that still wait are abandoned; what they bring is pulled again."""
        self._post_no_more.set()
        if self._postman is not None:
            self._postman.shutdown(wait=False, cancel_futures=True)
            self._postman = self._posting = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        for ear in self.ears.values():
            ear.pulling = None
            self._guard(f"source {ear.name}", ear.source.close)
        self._guard("live count", self.publisher.close)
        if self.is_active:
            self._guard("lease", lambda: lease.release(lease.COLLECTOR, self.holder, now_ms=self.clock()))
            self.is_active = False
        log.info("Collector %s has stopped.", self.holder)

    def _guard(self, what: str, work: Callable[[], object]) -> bool:
        """Did ``work`` go well? An exception is told once per kind, without its text, which may hold anything."""
        try:
            work()
        except lease.LeaseLost:
            self.is_active = False
            log.warning("Collector %s lost the lease while it worked; nothing of it was written.", self.holder)
            return False
        except Exception as error:  # noqa: BLE001 - the collect loop: nothing may stop the others
            trouble = place_of(error)
            if self._trouble.get(what) != trouble:
                log.error("Trouble with the %s: %s. It goes on with the rest and tries again.", what, trouble)
            self._trouble[what] = trouble
            return False
        if self._trouble.pop(what, None):
            log.info("The %s is well again.", what)
        return True

    # The lease ----------------------------------------------------------------

    def _hold(self, now_ms: int) -> None:
        if self.is_active:
            if not self._due.is_due("renew", lease.RENEW_MS, now_ms):
                return
            self.is_active = False  # unless the next line says otherwise
            self.is_active = lease.renew(lease.COLLECTOR, self.holder, now_ms=now_ms, progress=self.progress())
            if not self.is_active:
                log.warning("Collector %s lost the lease and is on standby.", self.holder)
        elif self._due.is_due("take over", TAKE_OVER_MS, now_ms):
            self.is_active = lease.acquire(lease.COLLECTOR, self.holder, now_ms=now_ms)
            if self.is_active:
                log.info("Collector %s is active.", self.holder)
                self._begin(now_ms)

    def _begin(self, now_ms: int) -> None:
        """Starts from what the database says, whoever wrote it."""
        self._due = _Due({"renew": now_ms + lease.RENEW_MS})
        for ear in self.ears.values():
            ear.cursor, ear.pulling, ear.due_ms = None, None, now_ms

    def progress(self) -> dict[str, Any]:
        """What the lease's row tells the doctor."""
        return {
            "counts": dict(self._counts),
            "trouble": dict(self._trouble),
            "failing": sorted(ear.name for ear in self.ears.values() if ear.failures),
            "frames_sent": self.publisher.sender.sent,
            "frames_failed": self.publisher.sender.failed,
        }

    # Hearing ------------------------------------------------------------------

    def _hear(self, ear: _Ear, now_ms: int) -> None:
        if ear.cursor is None:
            state = SourceState.objects.filter(pk=ear.name).first()
            ear.cursor = dict(state.cursor) if state else {}
        if ear.pulling is not None and ear.pulling.done():
            self._harvest(ear, now_ms)
        if inbox.takes_callbacks(ear.source):
            self._drain(ear, now_ms)
        if isinstance(ear.source, PullSource) and ear.pulling is None and self._may_pull(ear, now_ms):
            ear.asked_ms = now_ms
            ear.pulling = self._pool().submit(self._pull, ear.source, dict(ear.cursor or {}))

    def _pull(self, source: PullSource, cursor: Mapping[str, Any]) -> Report:
        """Runs in a thread. Starts are counted back from the pull's own instant, not from its step's."""
        return source.pull(cursor, now_ms=self._now())

    def _now(self) -> int:
        """The collector's clock at this moment of a step, which may take long."""
        at_ms, monotonic_ms = self._begun
        return at_ms + _monotonic_ms() - monotonic_ms

    def _may_pull(self, ear: _Ear, now_ms: int) -> bool:
        too_far_ms = round(max(LONGEST_BACK_OFF_SECONDS, _interval(ear.source)) * 2 * MS)
        return now_ms >= ear.due_ms or ear.due_ms - now_ms > too_far_ms  # the clock went back

    def _harvest(self, ear: _Ear, now_ms: int) -> None:
        assert ear.pulling is not None
        pulling, ear.pulling = ear.pulling, None
        interval_seconds = _interval(ear.source)
        error = pulling.exception()
        if error is not None:
            ear.failures += 1
            ear.due_ms = now_ms + round(_back_off_seconds(interval_seconds, ear.failures) * MS)
            self._note_failure(ear, error, now_ms)
            return
        report = pulling.result()
        ear.due_ms = now_ms if report.more else ear.asked_ms + round(interval_seconds * MS)
        stored = self._guard(f"report of source {ear.name}", lambda: self._store(ear, report, now_ms))
        if stored and ear.failures:
            log.info("Source %s answers again after %d failures.", ear.name, ear.failures)
            ear.failures = 0

    def _drain(self, ear: _Ear, now_ms: int) -> None:
        only_told = not isinstance(ear.source, PullSource)
        if only_told and not self._has_callbacks(ear) and not self._due.is_due(f"look {ear.name}", 5 * MS, now_ms):
            return
        if isinstance(ear.source, StreamEventsSource):
            report = stream_events.report(ear.source, ear.cursor or {}, now_ms=now_ms)
        else:
            report = inbox.report(ear.source, ear.cursor or {}, now_ms=now_ms)
        if report is not None:
            self._store(ear, report, now_ms)

    def _has_callbacks(self, ear: _Ear) -> bool:
        return Inbox.objects.filter(source=ear.name).exists()

    def _store(self, ear: _Ear, report: Report, now_ms: int) -> None:
        join_ms = round(2 * _interval(ear.source) * MS)
        done = store(report, now_ms=now_ms, join_ms=join_ms)
        if report.cursor is not None:
            ear.cursor = dict(report.cursor)
        self._add(done)

    def _add(self, done: Ingested) -> None:
        for name, count in (
            ("connections", done.connections_new),
            ("connections_ended", done.connections_ended),
            ("sessions", done.sessions.opened),
            ("unknown_streams", done.unknown_streams),
        ):
            if count:
                self._counts[name] = self._counts.get(name, 0) + count

    def _note_failure(self, ear: _Ear, error: BaseException, now_ms: int) -> None:
        # Sources word their own troubles without addresses; of any other error the kind is told alone.
        told = str(error) if isinstance(error, SourceUnavailable) else f"{place_of(error)}."
        if ear.failures == 1:
            log.warning("Source %s cannot be heard: %s Nobody is taken to have left.", ear.name, told)
        columns = {"failed": from_ms(now_ms), "failures": ear.failures, "error": told[:255]}
        if not SourceState.objects.filter(pk=ear.name).update(**columns):
            SourceState.objects.create(pk=ear.name, **columns)

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(PULL_THREADS, thread_name_prefix="listen-stats-pull")
        return self._threads

    # Timeline and figures -------------------------------------------------------

    def _sync_streams(self) -> None:
        found = streams.sync(streams.station_by(self.onair))
        self._stations = sorted({stream.station_id for stream in found.values()} - {NO_STATION})

    def _keep_timeline(self, station_id: int, now_ms: int) -> None:
        def compute(started_ms: int, ended_ms: int) -> None:
            timeline.refresh(station_id, started_ms, ended_ms, now_ms=now_ms)

        self._guard(
            f"stale timeline of station {station_id}",
            lambda: self._work_off(StaleWindow.TIMELINE, station_id, compute, now_ms),
        )
        if self._due.is_due(f"timeline {station_id}", TIMELINE_EVERY_MS, now_ms):
            self._guard(f"timeline of station {station_id}", lambda: compute(now_ms - SLIDING_MS, now_ms + AHEAD_MS))

    def _keep_audience(self, station_id: int, now_ms: int) -> None:
        def compute(started_ms: int, ended_ms: int) -> None:
            rollup.refresh(station_id, started_ms, ended_ms, now_ms=now_ms, rule_sets=rollup.every_rule_set())

        def compute_all(started_ms: int, ended_ms: int) -> None:
            compute(started_ms, ended_ms)
            compute_quarters(started_ms, ended_ms)
            if ended_ms < now_ms - DAYS_AGAIN_MS:  # younger days are counted by the clock: that takes a moment each
                cumes.refresh(station_id, started_ms, ended_ms, now_ms=now_ms, rule_sets=rollup.every_rule_set())
                shares.refresh(station_id, started_ms, ended_ms, now_ms=now_ms, rule_sets=rollup.every_rule_set())

        def compute_quarters(started_ms: int, ended_ms: int) -> None:
            quarters.refresh(station_id, started_ms, ended_ms, now_ms=now_ms, rule_sets=rollup.every_rule_set())

        def settle() -> None:
            for started_ms, ended_ms in _unsettled(station_id, now_ms):
                compute(started_ms, ended_ms)
            for started_ms, ended_ms in run_together(
                quarters.unsettled(station_id, now_ms=now_ms, back_ms=SETTLE_BACK_MS)
            ):
                compute_quarters(started_ms, ended_ms)

        what = f"audience of station {station_id}"
        if self._due.is_due(f"audience {station_id}", DEBOUNCE_MS, now_ms):
            self._guard(f"stale {what}", lambda: self._work_off(StaleWindow.AUDIENCE, station_id, compute_all, now_ms))
        if self._due.is_due(f"running {station_id}", RUNNING_EVERY_MS, now_ms):
            self._guard(f"running {what}", lambda: compute(now_ms - 1, now_ms))
        if self._due.is_due(f"settle {station_id}", SETTLE_EVERY_MS, now_ms):
            self._guard(f"provisional {what}", settle)

    def _keep_days(self, what: str, keeper: ModuleType, station_id: int, now_ms: int) -> None:
        """Keeps what is counted from all sessions of a day: the running one, young ones, those that may settle."""

        def count(started_ms: int, ended_ms: int) -> None:
            keeper.refresh(station_id, started_ms, ended_ms, now_ms=now_ms, rule_sets=rollup.every_rule_set())

        def count_again() -> None:
            count(now_ms - DAYS_AGAIN_MS, now_ms)
            for started_ms, ended_ms in keeper.unsettled(station_id, now_ms=now_ms, back_ms=SETTLE_BACK_MS):
                count(started_ms, ended_ms)

        if self._due.is_due(f"late {what} {station_id}", DAYS_AGAIN_EVERY_MS, now_ms):
            self._guard(f"late {what} of station {station_id}", count_again)
        if self._due.is_due(f"{what} {station_id}", DAYS_EVERY_MS, now_ms):
            self._guard(f"{what} of station {station_id}", lambda: count(now_ms - 1, now_ms))

    def _work_off(self, kind: str, station_id: int, compute: Callable[[int, int], object], now_ms: int) -> None:
        windows.work_off(kind, station_id, compute, put_off=self._put_off, now_ms=now_ms)

    # Health -----------------------------------------------------------------------

    def _tell_health(self) -> None:
        waiting = windows.waiting()
        log.info(
            "Collector %s: %s; waiting windows: %s; failing sources: %s; frames sent %d, failed %d.",
            self.holder,
            ", ".join(f"{name} {count}" for name, count in sorted(self._counts.items())) or "nothing heard yet",
            ", ".join(f"{kind} {count}" for kind, count in sorted(waiting.items())) or "none",
            ", ".join(sorted(ear.name for ear in self.ears.values() if ear.failures)) or "none",
            self.publisher.sender.sent,
            self.publisher.sender.failed,
        )


def _tell_of_letters(done: letters.Sent) -> None:
    if done.failed or done.dead or done.doubtful:
        log.warning(
            "Of the letters to producers %d were sent, %d are tried again, %d are given up, %d perhaps arrived.",
            done.sent, done.failed, done.dead, done.doubtful,
        )  # fmt: skip


def _unsettled(station_id: int, now_ms: int) -> list[tuple[int, int]]:
    """Windows of airings that may settle now: over, late window passed, figures still provisional."""
    late_ms = lateness.late_ms(Stream.objects.of(station_id))
    spans = Audience.objects.unsettled().filter(
        airing__station_id=station_id,
        airing__layer__in=tuple(Layer),
        airing__ended__lte=from_ms(now_ms - late_ms),
        airing__ended__gt=from_ms(now_ms - late_ms - SETTLE_BACK_MS),
    )
    found = spans.values_list("airing__started", "airing__ended").distinct()
    return run_together((to_ms(started), to_ms(ended)) for started, ended in found)


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _interval(source: Source) -> float:
    return float(getattr(source, "interval_seconds", 15.0))


def _back_off_seconds(interval_seconds: float, failures: int) -> float:
    """Twice as long after each failure, up to a minute, and never in step with others."""
    longest = max(LONGEST_BACK_OFF_SECONDS, interval_seconds)
    return min(interval_seconds * 2 ** min(failures - 1, 10), longest) * random.uniform(0.8, 1.2)
