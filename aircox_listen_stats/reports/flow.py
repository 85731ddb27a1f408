"""When listeners came and went, minute by minute, read from the sessions while they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..fields import to_ms
from ..kernel.types import MS, RuleSet
from ..models import Session
from .figures import MS_PER_MINUTE
from .observed import ObservedStream

MOST_SESSIONS = 50_000
"""Sessions that a page reads for one diffusion; with more, the minutes are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteFlow:
    """Sessions that began and that ended in each minute from the start. They add up to joined and left.

    None where the minute was not observed and nobody became known to have come, or gone, by other ways.
    ``there`` are the sessions that had begun and not ended when the minute began, of all that met the
    diffusion; None only where a smallest cell hides it.
    """

    joined: tuple[int | None, ...]
    left: tuple[int | None, ...]
    there: tuple[int | None, ...]

    def unknown_with(self, curve: Sequence[float | None]) -> MinuteFlow:
        """The same with None for the zeros of the minutes of which ``curve`` knows nothing."""

        def known(counts: Sequence[int | None]) -> tuple[int | None, ...]:
            return tuple(
                None if not count and minute < len(curve) and curve[minute] is None else count
                for minute, count in enumerate(counts)
            )

        return MinuteFlow(joined=known(self.joined), left=known(self.left), there=self.there)


def minute_flow(
    streams: Sequence[ObservedStream], started_ms: int, ended_ms: int, rules: RuleSet, *, met: int
) -> MinuteFlow | None:
    """The flow of ``[started_ms, ended_ms)``; None unless exactly ``met`` counted sessions heard some of it.

    That condition keeps one page from showing two truths: after the sessions have expired, or where a
    session became known since the figures were computed, the stored figures stand alone.
    """
    if met > MOST_SESSIONS or ended_ms <= started_ms:
        return None
    minutes = -(-(ended_ms - started_ms) // MS_PER_MINUTE)
    joined, left = [0] * minutes, [0] * minutes
    comes, goes = [0] * (minutes + 1), [0] * (minutes + 1)
    heard = 0
    for start, end, is_open in _counted(streams, started_ms, ended_ms, rules):
        heard += 1
        comes[_first_minute_at(start - started_ms, minutes)] += 1
        if not is_open:
            goes[_first_minute_at(end - started_ms, minutes)] += 1
        if start >= started_ms:
            joined[(start - started_ms) // MS_PER_MINUTE] += 1
        if not is_open and end <= ended_ms:
            # An end on the closing instant belongs to the last minute, not to one after it.
            left[min((end - started_ms) // MS_PER_MINUTE, minutes - 1)] += 1
    if heard != met:
        return None
    there = accumulate(came - went for came, went in zip(comes[:minutes], goes[:minutes], strict=True))
    return MinuteFlow(joined=tuple(joined), left=tuple(left), there=tuple(there))


def _first_minute_at(after_ms: int, minutes: int) -> int:
    """The first whole minute at or after the instant ``after_ms`` from the start; ``minutes`` where it is past them."""
    return min(max(-(-after_ms // MS_PER_MINUTE), 0), minutes)


def _counted(
    streams: Sequence[ObservedStream], started_ms: int, ended_ms: int, rules: RuleSet
) -> Iterator[tuple[int, int, bool]]:
    """Start and end, on the studio's clock, of the counted sessions with a part in the window."""
    delays = {stream.id: stream.delay_ms for stream in streams}
    latest = max(delays.values(), default=0)
    rows = (
        Session.objects.on(list(delays))
        .counted()
        .touching(started_ms, ended_ms + latest)
        .values_list("stream_id", "started", "ended", "is_open", "played_ms", "parts")[: MOST_SESSIONS + 1]
    )
    for stream_id, started, ended, is_open, played, parts in rows:
        start, end = to_ms(started) - delays[stream_id], to_ms(ended) - delays[stream_id]
        pieces = parts or [[0, end - start]]
        if _counts(played, rules) and any(a < b and start + a < ended_ms and start + b > started_ms for a, b in pieces):
            yield start, end, is_open


def _counts(played_ms: int, rules: RuleSet) -> bool:
    minimum = rules.minimum_seconds * MS
    return played_ms > minimum if rules.minimum_is_strict else played_ms >= minimum
