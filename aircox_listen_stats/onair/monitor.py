"""The hook on aircox's Monitor: after each of its ticks, one look at what is on air.

The broadcast comes first. The wrapped tick runs before anything of ours, its
result and its exceptions pass unchanged, and what follows reads a dozen
attributes that the tick has just filled and puts one tuple into a bounded
queue. It makes no query and no call to Liquidsoap, waits for nothing, and
swallows whatever goes wrong. A thread of its own (`recorder`) does the rest.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import Any

from .. import conf
from . import aircox
from .recorder import Counts, DiffusionNote, LogNote, Recorder, Tick

__all__ = [
    "counts",
    "install",
    "install_if_configured",
    "note_diffusion",
    "note_log",
    "observe",
    "recorder",
    "uninstall",
]

logger = logging.getLogger("aircox_listen_stats.onair")

PLAYING = "playing"
"""What Liquidsoap says of a request on air."""

recorder = Recorder()
_wrapped: type | None = None


def install_if_configured() -> bool:
    """True when MONITOR_HOOK is set and this process has a Monitor to observe. Never raises."""
    try:
        return bool(conf.get().monitor_hook) and install()
    except Exception as error:  # noqa: BLE001  # a broken hook must not keep the playout from starting
        logger.warning("The Monitor hook is not installed: %s.", type(error).__name__)
        return False


def install() -> bool:
    """True when the Monitor of this process is observed from now on; False where it has none."""
    global _wrapped
    monitor = aircox.log().monitor_class()
    if monitor is None:
        return False
    if _wrapped is not None:
        uninstall()
    original = monitor.monitor

    @functools.wraps(original)
    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        observe(self)
        return result

    monitor.monitor = observed
    _wrapped = monitor
    return True


def uninstall() -> None:
    """Nothing; the Monitor is as aircox wrote it."""
    global _wrapped
    if _wrapped is not None:
        _wrapped.monitor = _wrapped.monitor.__wrapped__
        _wrapped = None


def observe(monitor: Any) -> None:
    """Nothing; what this Monitor's streamer plays now is in the recorder's queue. Never raises."""
    try:
        recorder.take(_tick(monitor.streamer, time.time_ns() // 1_000_000))
    except Exception:  # noqa: BLE001  # the broadcast comes first
        recorder.counts.failed += 1


def note_log(instance: Any) -> None:
    """Nothing; the recorder will mark the time of this Log row as stale. Never raises."""
    try:
        # Nothing else is read: `comment` holds a path, or even a Track object.
        recorder.take(LogNote(instance.station_id, instance.date))
    except Exception:  # noqa: BLE001  # the broadcast comes first
        recorder.counts.failed += 1


def note_diffusion(instance: Any) -> None:
    """Nothing; the recorder will mark this diffusion's time, old and new, as stale. Never raises."""
    try:
        recorder.take(DiffusionNote(instance.pk, instance.program_id, instance.start, instance.end))
    except Exception:  # noqa: BLE001  # the broadcast comes first
        recorder.counts.failed += 1


def counts() -> Counts:
    """What the hook of this process has seen, written and lost."""
    return recorder.counts


def _tick(streamer: Any, at_ms: int) -> Tick:
    """What is on air now: no source where nothing is, or where the streamer did not answer this tick."""
    station_id = streamer.station.pk
    source = streamer.source if _was_fetched(streamer) else None
    if source is None or getattr(source, "request_status", PLAYING) != PLAYING:
        return Tick(at_ms, station_id)
    return Tick(
        at_ms,
        station_id,
        str(source.id),
        source.uri or "",
        source.air_time,
        source.remaining,
        getattr(source, "status", None) or "",
        getattr(source, "title", None) or "",
        getattr(source, "artist", None) or "",
    )


def _was_fetched(streamer: Any) -> bool:
    """Whether the tick asked Liquidsoap, that is, found it ready.

    A tick that finds it not ready returns before `fetch()` and leaves every
    attribute as it was. Asking `is_ready` again would be a call to Liquidsoap,
    so the calls of `fetch()` are counted instead, on this one object.
    """
    own = vars(streamer)
    fetch = own.get("fetch")
    if not isinstance(fetch, _CountedFetch):
        own["fetch"] = _CountedFetch(streamer.fetch)
        return True
    fetched = fetch.times != fetch.noted
    fetch.noted = fetch.times
    return fetched


class _CountedFetch:
    """`Streamer.fetch` with a counter; passes everything through."""

    __slots__ = ("call", "noted", "times")

    def __init__(self, call: Any) -> None:
        self.call = call
        self.times = 0
        self.noted = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.times += 1
        return self.call(*args, **kwargs)
