"""What the figures of a period are made of: sums that are exact, and counts that may only be known within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..kernel.sketches import Estimate
from .blurs import Reason

__all__ = ["UNKNOWN", "Amounts", "Count", "Performances", "StandsOn"]


class StandsOn(StrEnum):
    """What a figure was computed from."""

    SESSIONS = "sessions"
    ROLL_UP = "roll-up"  # quarter-hours and the audiences of airings, which outlive the sessions
    SKETCH = "sketch"
    NOTHING = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number of heads: ``value`` is None where only bounds, or not even these, are known.

    Exact where both bounds are the value. With ``confidence`` the bounds hold so often, else surely.
    """

    value: int | None = None
    lower: int | None = None
    upper: int | None = None
    confidence: float | None = None
    stands_on: StandsOn = StandsOn.NOTHING
    settled: bool = False

    @classmethod
    def exactly(cls, value: int, stands_on: StandsOn, *, settled: bool) -> Count:
        return cls(value=value, lower=value, upper=value, stands_on=stands_on, settled=settled)

    @classmethod
    def estimated(cls, found: Estimate, confidence: float | None, stands_on: StandsOn, *, settled: bool) -> Count:
        return cls(
            value=found.count,
            lower=found.lower,
            upper=found.upper,
            confidence=confidence,
            stands_on=stands_on,
            settled=settled,
        )


UNKNOWN = Count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Performances:
    """What tracks had under the rule-set ``all``: heads, listener-milliseconds, share of their time observed."""

    performances: int
    listening_ms: int
    coverage: float
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """The sums of one period. None: not known. Milliseconds, heads, and bytes.

    ``averaged_ms`` and ``averaged_length_ms`` are what the average audience is made of: everything but
    what was observed for too little of its time. ``from_sessions`` names the fields that were read from these.
    """

    length_ms: int
    covered_ms: float
    listening_ms: int
    averaged_ms: int
    averaged_length_ms: int
    begun: int
    peak: int
    peak_at_ms: int | None
    active: Count
    settled: bool
    person_ms: int | None = None
    elapsed_ms: int | None = None
    quarters: int = 0
    quarter_listeners: int | None = None
    quarter_listeners_in_one_piece: int | None = None
    bytes_sent: int | None = None
    bytes_told_ms: int | None = None
    delivered_ms: int | None = None
    delivered_told_ms: int | None = None
    cume: Count = UNKNOWN
    reach: Count = UNKNOWN
    stands_on: StandsOn = StandsOn.ROLL_UP
    from_sessions: frozenset[str] = frozenset()
    is_cut: bool = False  # parts of quarter-hours at its edges are in no sum: their sessions are gone
    airings: int | None = None
    airings_unknown: int = 0
    at_least_because: tuple[Reason, ...] = ()  # of a line alone: a report asks for its own

    @property
    def coverage(self) -> float:
        """The share of its time that was observed."""
        return self.covered_ms / self.length_ms if self.length_ms else 0.0

    @property
    def is_known(self) -> bool:
        """Whether anything is: of what nobody observed every sum is zero, and that zero means nothing."""
        return self.covered_ms > 0 or self.listening_ms > 0
