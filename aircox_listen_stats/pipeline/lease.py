"""One active collector, any number on standby: who holds the lease, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db.models import Q

from ..errors import ListenStatsError
from ..fields import from_ms
from ..models import Lease

COLLECTOR = "collector"

LASTS_MS = 30_000
"""A collector that was killed is replaced after this long."""

RENEW_MS = 5_000
"""Renewed six times within its life: one slow transaction does not lose it."""


_writer: ContextVar[tuple[str, str] | None] = ContextVar("listen_stats_writer", default=None)


class LeaseLost(ListenStatsError):
    """Another one has taken over: nothing may be written any more."""


@contextmanager
def writing_as(name: str, holder: str) -> Iterator[None]:
    """Whatever is written inside is written only as long as the lease is ``holder``'s."""
    token = _writer.set((name, holder))
    try:
        yield
    finally:
        _writer.reset(token)


def is_asked_for() -> bool:
    """Does what is written here depend on a lease? Commands and imports write without one."""
    return _writer.get() is not None


def ensure() -> None:
    """To be called first in a transaction that writes; raises LeaseLost.

    The lease's row stays locked up to the transaction's end, so that nobody
    takes over in between: who slept, or computed for too long, would put
    figures of before over those of its successor.
    """
    writer = _writer.get()
    if writer is None:
        return
    name, holder = writer
    if not Lease.objects.filter(pk=name, holder=holder).update(holder=holder):
        raise LeaseLost(f"Lease {name!r} is no longer held by {holder!r}. It goes on as a standby.")


def alone(name: str) -> None:
    """Keeps out whoever else calls it with ``name`` until the transaction ends; to be called before that one reads.

    Its row is held by nobody, and locked by whoever works.
    """
    row = Lease.objects.filter(pk=name)
    if not row.update(holder=""):
        never = from_ms(0)
        Lease.objects.bulk_create([Lease(name=name, holder="", expires=never, heartbeat=never)], ignore_conflicts=True)
        row.update(holder="")


def acquire(name: str, holder: str, *, now_ms: int) -> bool:
    """Is the lease ``holder``'s from now on? It is when free, expired, or theirs already.

    A lease that seems to last longer than any can was written by a clock that
    was wrong, and is free.
    """
    free = Q(holder=holder) | Q(expires__lte=from_ms(now_ms)) | Q(expires__gt=from_ms(now_ms + 2 * LASTS_MS))
    if Lease.objects.filter(free, pk=name).update(
        holder=holder, expires=from_ms(now_ms + LASTS_MS), heartbeat=from_ms(now_ms)
    ):
        return True
    if Lease.objects.filter(pk=name).exists():
        return False
    Lease.objects.bulk_create(
        [Lease(name=name, holder=holder, expires=from_ms(now_ms + LASTS_MS), heartbeat=from_ms(now_ms))],
        ignore_conflicts=True,
    )
    return Lease.objects.filter(pk=name, holder=holder).exists()


def renew(name: str, holder: str, *, now_ms: int, progress: dict[str, Any]) -> bool:
    """Is the lease still ``holder``'s? Late is not lost, as long as nobody else took it."""
    return bool(
        Lease.objects.filter(pk=name, holder=holder).update(
            expires=from_ms(now_ms + LASTS_MS), heartbeat=from_ms(now_ms), progress=progress
        )
    )


def release(name: str, holder: str, *, now_ms: int) -> None:
    """Lets a standby take over at once."""
    Lease.objects.filter(pk=name, holder=holder).update(expires=from_ms(now_ms))
