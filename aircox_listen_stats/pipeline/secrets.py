"""The secrets under which listener keys are made: one per period, destroyed when it is over.

The period's own secret makes the keys, the one before it is only tried, so
that a session across the rotation stays one. Any older one is overwritten and
deleted: from then on nobody can tell which keys of two periods are one listener.
"""

from __future__ import annotations

import functools
import secrets as entropy
import threading
from dataclasses import dataclass

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..models import Secret

MS = 1000

SECRET_BYTES = 32
"""As long as the digest of the HMAC (RFC 2104, section 3)."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Secrets:
    """The secrets of one period, which begins at ``started_ms``."""

    current: bytes
    previous: bytes | None = None
    started_ms: int = 0

    def __repr__(self) -> str:
        return "Secrets(hidden)"


_lock = threading.Lock()
_known: Secrets | None = None


def current(now_ms: int) -> Secrets:
    """The secrets of the period of ``now_ms``; makes what is missing, destroys what is over.

    One query when the period changes, none otherwise. Several writers agree:
    the first to store a period's secret wins, the others read it.
    """
    global _known
    settings = conf.get()
    started_ms = _started(now_ms)
    with _lock:
        if _known is None or _known.started_ms != started_ms:
            before_ms = calendar.period_start(
                started_ms - 1, settings.key_rotation, settings.zone, settings.broadcast_day_start
            )
            _known = _of_period(started_ms, before_ms)
        return _known


def known(now_ms: int) -> Secrets | None:
    """The secrets of the period of ``now_ms`` where this process remembers them. Asks nobody, waits for nobody."""
    found = _known
    return found if found is not None and found.started_ms == _started(now_ms) else None


def forget() -> None:
    """Drops what this process remembers (a test, a fork, a failed transaction)."""
    global _known
    with _lock:
        _known = None


def destroy_before(started_ms: int) -> int:
    """How many secrets of periods that began before ``started_ms`` were destroyed.

    Each is overwritten first, so that it does not linger in a freed page of SQLite.
    """
    over = Secret.objects.filter(started__lt=started_ms)
    overwritten = over.update(value=bytes(SECRET_BYTES))
    if overwritten:
        over.delete()
    return overwritten


def _started(now_ms: int) -> int:
    settings = conf.get()
    second_ms = now_ms // MS * MS  # a period begins on a whole second, and many callbacks come in one
    return _period_start(second_ms, settings.key_rotation, settings.zone, settings.broadcast_day_start)


_period_start = functools.lru_cache(maxsize=64)(calendar.period_start)


def _of_period(started_ms: int, before_ms: int) -> Secrets:
    stored = _stored(before_ms, started_ms)
    if started_ms not in stored:
        row = Secret(started=from_ms(started_ms), value=entropy.token_bytes(SECRET_BYTES))
        Secret.objects.bulk_create([row], ignore_conflicts=True)  # another process may be first
        stored = _stored(before_ms, started_ms)
        destroy_before(before_ms)
    return Secrets(current=stored[started_ms], previous=stored.get(before_ms), started_ms=started_ms)


def _stored(*periods: int) -> dict[int, bytes]:
    rows = Secret.objects.filter(started__in=periods)
    return {to_ms(row.started): bytes(row.value) for row in rows}
