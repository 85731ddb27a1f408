"""The sums of a station or a stream: of stored quarter-hours, and of sessions where a period cuts one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import metrics
from ..kernel.arrays import Bools, Ints
from ..kernel.correlate import Listening, audience
from ..kernel.metrics import QUARTER_HOUR_MS, Periods
from ..kernel.types import RuleSet
from ..models import QuarterHour, Stream
from ..querysets import FOUR_HOURS_MS
from . import keys, quarters
from .amounts import UNKNOWN, Amounts, Count, StandsOn
from .heard import covered, heard, heard_for_long, sessions_known_from_ms
from .quarters import Quarters
from .spans import Span

__all__ = ["MOST_SESSIONS", "Whole", "amounts", "computed_until", "sums"]

HOUR_MS = 3_600_000

MOST_SESSIONS = 100_000
"""Sessions that are read for one report: a day of a large station. Of more, the quarter-hours stand alone."""

NOTHING_LATER_MS = 48 * HOUR_MS
"""A quarter-hour that has no row after so long was heard by nobody, and not observed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Whose quarter-hours: those of the station (QuarterHour.STATION) or of one stream, and the streams behind."""

    station_id: int
    stream_id: int
    streams: Sequence[Stream]

    @property
    def is_station(self) -> bool:
        return self.stream_id == QuarterHour.STATION


def amounts(whole: Whole, span: Span, rules: RuleSet, *, until_ms: int, now_ms: int) -> Amounts | None:
    """The sums of the span up to ``until_ms``; None where it has not begun, or there is no such stream."""
    stored = quarters.read(
        whole.station_id,
        whole.stream_id,
        rules.name,
        span.started_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS,
        min(span.ended_ms, until_ms),
    )
    starts, ends = span.slots(until_ms)
    if not len(starts) or not whole.streams:
        return None
    can_read = rules.gap_seconds == conf.get().rules().gap_seconds
    known_from_ms = sessions_known_from_ms(now_ms) if can_read else now_ms
    made = sums(stored, starts, ends)
    made = _with_cut_quarters(made, whole, stored, starts, ends, rules, known_from_ms)
    made = _with_active(made, whole, stored, starts, ends, rules, known_from_ms)
    is_over = span.ended_ms <= until_ms
    made = replace(made, settled=made.settled and is_over and _is_computed(stored, int(ends[-1]), now_ms))
    if int(starts[0]) >= known_from_ms and keys.are_comparable(int(starts[0]), int(ends[-1])):
        return _with_people(made, whole, span, starts, ends, rules)
    scope, scope_id = ("station", whole.station_id) if whole.is_station else ("stream", whole.stream_id)
    return replace(made, cume=keys.counted_in_its_time(scope, scope_id, whole.station_id, span, rules.name))


def computed_until(whole: Whole, rules: RuleSet, now_ms: int) -> int:
    """Where the last quarter-hour ends that is over; the one before, where the collector has not come to the last."""
    until_ms = now_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS
    last_ms = until_ms - QUARTER_HOUR_MS
    newest = QuarterHour.objects.filter(
        station_id=whole.station_id, stream_id=whole.stream_id, rule_set=rules.name, started__lt=from_ms(until_ms)
    ).order_by("-started")
    found = newest.values_list("started", flat=True).first()
    return last_ms if found is not None and to_ms(found) == last_ms - QUARTER_HOUR_MS else until_ms


def sums(stored: Quarters, starts: Ints, ends: Ints) -> Amounts:
    """Those of the whole quarter-hours in the stretches; nothing yet of those that a stretch cuts."""
    inside = stored.only(stored.within(starts, ends))
    peak = int(inside["peak"].max(initial=0))
    at = int(np.argmax(inside["peak"])) if len(inside) else 0
    listening_ms, length_ms = int(inside["listening_ms"].sum()), int((ends - starts).sum())
    return Amounts(
        length_ms=length_ms,
        covered_ms=int(inside["covered_ms"].sum()),
        listening_ms=listening_ms,
        averaged_ms=listening_ms,
        averaged_length_ms=length_ms,
        begun=int(inside["begun"].sum()),
        peak=peak,
        peak_at_ms=int(inside["peak_at"][at]) if peak else None,
        active=UNKNOWN,
        settled=bool(inside["settled"].all()),
        person_ms=int(inside["person_ms"].sum()),
        quarters=int((-(-ends // QUARTER_HOUR_MS) - starts // QUARTER_HOUR_MS).sum()),
        quarter_listeners=int(inside["quarter_listeners"].sum()),
        quarter_listeners_in_one_piece=int(inside["quarter_listeners_in_one_piece"].sum()),
        bytes_sent=int(inside["bytes_sent"].sum()),
        bytes_told_ms=int(inside["bytes_told_ms"].sum()),
        delivered_ms=int(inside["delivered_ms"].sum()),
        delivered_told_ms=int(inside["delivered_told_ms"].sum()),
    )


# Quarter-hours that are cut ----------------------------------------------------------------------


def _cut(starts: Ints, ends: Ints) -> list[tuple[int, int]]:
    """What the stretches hold of quarter-hours that they cut."""
    first, stop = quarters.whole_quarters(starts, ends)
    heads = zip(starts.tolist(), np.minimum(first, ends).tolist(), strict=True)
    tails = zip(np.maximum(stop, starts).tolist(), ends.tolist(), strict=True)
    return sorted({(start, end) for start, end in (*heads, *tails) if end > start and not _is_whole(start, end)})


def _is_whole(start: int, end: int) -> bool:
    return start % QUARTER_HOUR_MS == 0 and end % QUARTER_HOUR_MS == 0


def _with_cut_quarters(
    made: Amounts, whole: Whole, stored: Quarters, starts: Ints, ends: Ints, rules: RuleSet, known_from_ms: int
) -> Amounts:
    """The sums with what the cut quarter-hours add, from their sessions."""
    for start_ms, end_ms in _cut(starts, ends):
        if start_ms < known_from_ms:
            made = replace(made, is_cut=True)
            continue
        found = heard(whole.streams, start_ms, end_ms, amounts=True)
        one = Periods(
            listening=metrics.counting(found.listening, rules),
            starts_ms=np.array([start_ms]),
            ends_ms=np.array([end_ms]),
        )
        share = covered(whole.streams, one.starts_ms, one.ends_ms)[0]
        rows = stored["settled"][stored["started"] == start_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS]
        made = _added(made, one, share * (end_ms - start_ms), settled=bool(rows.all()))
    return made


def _added(made: Amounts, one: Periods, covered_ms: float, *, settled: bool) -> Amounts:
    heard_by = one.audience
    listening_ms, peak = int(heard_by.listening_ms[0]), int(heard_by.peak[0])
    is_higher = peak > made.peak or (peak == made.peak > 0 and int(heard_by.peak_at_ms[0]) < (made.peak_at_ms or 0))

    def more(before: int | None, amount: float) -> int | None:
        return None if before is None else before + round(amount)

    return replace(
        made,
        covered_ms=made.covered_ms + covered_ms,
        listening_ms=made.listening_ms + listening_ms,
        averaged_ms=made.averaged_ms + listening_ms,
        begun=made.begun + int(heard_by.joined[0]),
        peak=max(made.peak, peak),
        peak_at_ms=int(heard_by.peak_at_ms[0]) if is_higher else made.peak_at_ms,
        person_ms=more(made.person_ms, float(one.person_hours[0]) * HOUR_MS),
        quarter_listeners=more(made.quarter_listeners, float(one.aqh[0])),
        quarter_listeners_in_one_piece=more(made.quarter_listeners_in_one_piece, float(one.aqh_in_one_piece[0])),
        bytes_sent=more(made.bytes_sent, int(one.bytes_sent[0])),
        bytes_told_ms=more(made.bytes_told_ms, float(one.bytes_share[0]) * listening_ms),
        delivered_ms=more(made.delivered_ms, float(one.delivered_hours[0]) * HOUR_MS),
        delivered_told_ms=more(made.delivered_told_ms, float(one.delivered_share[0]) * listening_ms),
        settled=made.settled and settled,
    )


# Active sessions ---------------------------------------------------------------------------------


def _with_active(
    made: Amounts, whole: Whole, stored: Quarters, starts: Ints, ends: Ints, rules: RuleSet, known_from_ms: int
) -> Amounts:
    """AS: who was there when a stretch began, and who began in it; over several stretches nobody twice.

    No session is silent for a whole quarter-hour unless the rules allow it, so that its first one has met
    all that began before.
    """
    if rules.gap_seconds * 1000 > QUARTER_HOUR_MS:
        return made
    inherited = _inherited(whole, stored, starts, ends, rules, known_from_ms)
    met = made.begun + sum(inherited)
    again = _met_again(whole, starts, ends, rules, known_from_ms)
    if again is not None:
        active = Count.exactly(met - again, StandsOn.ROLL_UP, settled=made.settled)
    else:
        least = made.begun + inherited[0]  # who was there at a later start may have begun in between
        active = Count(lower=least, upper=met, stands_on=StandsOn.ROLL_UP, settled=made.settled)
    return replace(made, active=active)


def _inherited(
    whole: Whole, stored: Quarters, starts: Ints, ends: Ints, rules: RuleSet, known_from_ms: int
) -> list[int]:
    """Of each stretch, the sessions that met it and had begun before."""
    first, _ = quarters.whole_quarters(starts, ends)
    known = dict(zip(stored["started"].tolist(), stored["inherited"].tolist(), strict=True))
    found = []
    for start_ms, end_ms, first_ms in zip(starts.tolist(), ends.tolist(), first.tolist(), strict=True):
        if start_ms == first_ms or start_ms < known_from_ms:
            found.append(known.get(first_ms, 0))
            continue
        stop_ms = min(end_ms, first_ms + QUARTER_HOUR_MS)
        listening = metrics.counting(heard(whole.streams, start_ms, stop_ms).listening, rules)
        found.append(int(audience(listening, np.array([start_ms]), np.array([stop_ms])).inherited[0]))
    return found


def _met_again(whole: Whole, starts: Ints, ends: Ints, rules: RuleSet, known_from_ms: int) -> int | None:
    """How often a session met one more of the stretches; None where that is not known.

    Whoever hears two that lie more than four hours apart has listened so long: these sessions are few.
    """
    if len(starts) == 1:
        return 0
    if (starts[1:] - ends[:-1] < FOUR_HOURS_MS).any() or int(starts[0]) < known_from_ms:
        return None
    long_ones = heard_for_long(whole.streams, int(starts[0]), int(ends[-1])).listening
    return again(metrics.counting(long_ones, rules), starts, ends)


def again(listening: Listening, starts: Ints, ends: Ints) -> int:
    """How often a session met one more of the stretches, which are disjoint and ascend, than its first."""
    parts = listening.parts
    first = np.searchsorted(ends, parts.started_ms, side="right")
    stop = np.searchsorted(starts, parts.ended_ms, side="left")
    counts = np.maximum(stop - first, 0)
    session = np.repeat(parts.session, counts)
    stretch = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    pairs = np.unique(session * len(starts) + stretch)
    return len(pairs) - len(np.unique(pairs // len(starts)))


# People ------------------------------------------------------------------------------------------


def _with_people(made: Amounts, whole: Whole, span: Span, starts: Ints, ends: Ints, rules: RuleSet) -> Amounts:
    """The sums with what only sessions of comparable keys tell: distinct listeners, reach; and with elapsed time."""
    scope, scope_id = ("station", whole.station_id) if whole.is_station else ("stream", whole.stream_id)
    most = made.active.upper
    if most is None or most > MOST_SESSIONS:
        return replace(made, cume=keys.counted_in_its_time(scope, scope_id, whole.station_id, span, rules.name))
    found = heard(whole.streams, int(starts[0]), int(ends[-1])).listening
    listening = metrics.counting(found, rules)
    periods = Periods(listening=listening, starts_ms=starts, ends_ms=ends)
    reached = int(metrics.reach(listening, starts, ends, np.zeros(len(starts), dtype=np.int64))[0])
    heads = keys.distinct(listening, starts, ends)
    return replace(
        made,
        cume=Count.exactly(heads, StandsOn.SESSIONS, settled=made.settled),
        reach=Count.exactly(reached, StandsOn.SESSIONS, settled=made.settled),
        elapsed_ms=round(float(periods.elapsed_hours.sum()) * HOUR_MS),
        from_sessions=made.from_sessions | {"elapsed_ms"},
    )


def _is_computed(stored: Quarters, ended_ms: int, now_ms: int) -> bool:
    """Whether the last quarter-hour has a row, or will never have one."""
    last_ms = (ended_ms - 1) // QUARTER_HOUR_MS * QUARTER_HOUR_MS
    is_there: Bools = stored["started"] >= last_ms
    return bool(is_there.any()) or now_ms - ended_ms > NOTHING_LATER_MS
