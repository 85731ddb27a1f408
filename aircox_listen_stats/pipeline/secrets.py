"""The secrets under which listener keys are made: one per period, destroyed when it is over.

The period's own secret makes the keys, the one before it is only tried, so
that a session across the rotation stays one. Any older one is overwritten and
deleted: from then on nobody can tell which keys of two periods are one listener.

A week and a month have secrets of their own, under which their listeners are
counted once (:mod:`.cumes`). They are destroyed when that count is settled.
"""

from __future__ import annotations

import functools
import secrets as entropy
import threading
from dataclasses import dataclass

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..models import PeriodSecret, Secret

MS = 1000

SECRET_BYTES = 32
"""As long as the digest of the HMAC (RFC 2104, section 3)."""


PERIODS = ("week", "month")
"""What has a secret of its own beside the one that makes the listener keys."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OfPeriod:
    """The secret of the week or month that began at ``started_ms``."""

    kind: str
    started_ms: int
    value: bytes

    def __repr__(self) -> str:
        return "OfPeriod(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Secrets:
    """The secrets of one period, which begins at ``started_ms``, and those of the week and month of day ``day_ms``."""

    current: bytes
    previous: bytes | None = None
    started_ms: int = 0
    day_ms: int = 0
    periods: tuple[OfPeriod, ...] = ()

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
    started_ms, day_ms = _started(now_ms), _started(now_ms, "day")
    with _lock:
        if not _is_of(_known, started_ms, day_ms):
            before_ms = calendar.period_start(
                started_ms - 1, settings.key_rotation, settings.zone, settings.broadcast_day_start
            )
            _known = _of_period(started_ms, before_ms, day_ms)
        assert _known is not None
        return _known


def known(now_ms: int) -> Secrets | None:
    """The secrets of the period of ``now_ms`` where this process remembers them. Asks nobody, waits for nobody."""
    found = _known
    return found if _is_of(found, _started(now_ms), _started(now_ms, "day")) else None


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


def destroy_of_period(kind: str, started_ms: int) -> None:
    """Overwrites and deletes the secret of one week or month."""
    over = PeriodSecret.objects.filter(kind=kind, started=from_ms(started_ms))
    if over.update(value=bytes(SECRET_BYTES)):
        over.delete()


def _is_of(found: Secrets | None, started_ms: int, day_ms: int) -> bool:
    return found is not None and found.started_ms == started_ms and found.day_ms == day_ms


def _started(now_ms: int, rotation: str | None = None) -> int:
    settings = conf.get()
    second_ms = now_ms // MS * MS  # a period begins on a whole second, and many callbacks come in one
    return _period_start(second_ms, rotation or settings.key_rotation, settings.zone, settings.broadcast_day_start)


_period_start = functools.lru_cache(maxsize=64)(calendar.period_start)


def _of_period(started_ms: int, before_ms: int, day_ms: int) -> Secrets:
    stored = _stored(before_ms, started_ms)
    if started_ms not in stored:
        row = Secret(started=from_ms(started_ms), value=entropy.token_bytes(SECRET_BYTES))
        Secret.objects.bulk_create([row], ignore_conflicts=True)  # another process may be first
        stored = _stored(before_ms, started_ms)
        destroy_before(before_ms)
    return Secrets(
        current=stored[started_ms],
        previous=stored.get(before_ms),
        started_ms=started_ms,
        day_ms=day_ms,
        periods=tuple(_of(kind, _started(day_ms, kind)) for kind in PERIODS),
    )


def _of(kind: str, started_ms: int) -> OfPeriod:
    row = PeriodSecret.objects.filter(kind=kind, started=from_ms(started_ms))
    value = row.values_list("value", flat=True).first()
    if value is None:
        made = PeriodSecret(kind=kind, started=from_ms(started_ms), value=entropy.token_bytes(SECRET_BYTES))
        PeriodSecret.objects.bulk_create([made], ignore_conflicts=True)  # another process may be first
        value = row.values_list("value", flat=True).get()
    return OfPeriod(kind=kind, started_ms=started_ms, value=bytes(value))


def _stored(*periods: int) -> dict[int, bytes]:
    rows = Secret.objects.filter(started__in=periods)
    return {to_ms(row.started): bytes(row.value) for row in rows}
