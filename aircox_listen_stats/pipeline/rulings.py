"""The stored rulings as the kernel takes them."""

from __future__ import annotations

from django.db.models import Q

from ..fields import from_ms, to_ms
from ..kernel import rulings
from ..kernel.rulings import Rulings
from ..models import Ruling

__all__ = ["of_kernel", "stored"]

SIDE_MS = 3600 * 1000
"""What a back-fill tells of beside its window begins or ends nearer to it than this."""


def stored(*, since_ms: int | None = None) -> Rulings:
    """The rulings as the kernel takes them; with ``since_ms`` without those of windows that ended before."""
    found = Ruling.objects.all()
    if since_ms is not None:
        found = found.filter(Q(ended=None) | Q(ended__gte=from_ms(since_ms - SIDE_MS)))
    return Rulings(of_kernel(row) for row in found)


def of_kernel(row: Ruling) -> rulings.Ruling:
    """The row as the kernel takes it."""
    return rulings.Ruling(
        number=row.pk or 0,
        exclusion=row.exclusion,
        stream_id=row.stream_id,
        source=row.source,
        told_exclusion=row.told_exclusion,
        told_rule=row.told_rule,
        app=row.app,
        listener=row.listener,
        from_ms=None if row.started is None else to_ms(row.started),
        to_ms=None if row.ended is None else to_ms(row.ended),
        only_source=row.only_source,
        heard_until_ms=None if row.heard_until is None else to_ms(row.heard_until),
        also=tuple((listener, started_ms) for listener, started_ms in row.also),
        is_revoked=row.revoked is not None,
    )
