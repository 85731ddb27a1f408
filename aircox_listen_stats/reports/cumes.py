"""Distinct listeners of a scope over a broadcast day, a week or a month: exact, within bounds, or unknown."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import from_ms
from ..kernel import sketches
from ..kernel.sketches import Estimate
from ..models import Cume, Sketch

__all__ = ["CumeFigure", "cume"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CumeFigure:
    """A cume with its bounds; ``confidence`` is None where the count is exact."""

    estimate: Estimate
    settled: bool

    @property
    def confidence(self) -> float | None:
        return None if self.estimate.is_exact else sketches.CONFIDENCE


def cume(station_id: int, scope: str, scope_id: int, *, kind: str, started_ms: int, rule_set: str) -> CumeFigure | None:
    """The cume of the station, stream or program ``scope_id`` in the day, week or month that begins at ``started_ms``.

    None where nothing was counted: unknown, and not zero. Never the sum of two.
    """
    name = {
        "station_id": station_id,
        "scope": scope,
        "scope_id": scope_id,
        "kind": kind,
        "started": from_ms(started_ms),
        "rule_set": rule_set,
    }
    stored = Cume.objects.filter(**name).first()
    if stored is not None:
        counted = Estimate(count=stored.count, lower=stored.lower, upper=stored.upper)
        return CumeFigure(estimate=counted, settled=stored.settled)
    days = list(Sketch.objects.filter(**name))
    if not days:
        return None
    found = sketches.reach((bytes(one.known) for one in days), (bytes(one.strangers) for one in days))
    return CumeFigure(estimate=found, settled=False)
