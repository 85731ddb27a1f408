"""What played, one thing after another: aircox's sound rows and the hook's sightings put together.

The rows miss items, repeat them, and never tell an end; the sightings may
begin late, and end with the hook. A play takes the best of both. Its key is
its source and the second in which it went on air: that stays when a better
bound is learnt later.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .airlog import LogKind, LogRow, OnAirSpan, Records, SoundRow, WatchSpan
from .types import Airing, Basis

__all__ = ["Play", "Plays", "plays"]

AGREE_MS = 6_000
"""Liquidsoap's air time and the hook's first sighting agree within this: a tick of 1 s and aircox's margin of 5 s."""
AHEAD_MS = 2_000
"""An air time may lie ahead of the sighting by this: two clocks, whole seconds."""
SAME_ROW_MS = 2_000
"""A row and a sighting of one source are the same play when their air times differ by no more."""
ALIVE_MS = 15_000
"""Seen within this time: the hook still watches."""
LONGEST_UNKNOWN_MS = 4 * 3_600_000
"""An item of unknown length lasts no longer than this (the longest listening event of openbroadcast)."""
LONGEST_MS = 24 * 3_600_000
"""aircox keeps a length as a time of day."""
HOUR_MS = 3_600_000
WIDEST_SHIFT_HOURS = 14
"""No two zones of one host's clock are further apart from UTC."""


@dataclass(slots=True, kw_only=True)
class Play:
    """One item on air during `[start_ms, end_ms)`; `raw_ms` is its air time as it was logged."""

    key: str
    source: str
    raw_ms: int
    key_ms: int
    start_ms: int
    start_basis: Basis
    end_ms: int = 0
    end_basis: Basis = Basis.INFERRED
    sound_id: int | None = None
    row: LogRow | None = None
    span: OnAirSpan | None = None
    stored: Airing | None = None  # as it was stored before
    frozen: Airing | None = None  # its evidence is gone: it stands as it was stored
    is_running: bool = False
    has_known_end: bool = True  # else it lasts until something else is known

    @property
    def is_live(self) -> bool:
        return self.span is not None and self.span.is_live


@dataclass(frozen=True, slots=True, kw_only=True)
class Plays:
    """Plays in order; all that rows and sightings suggest, doubtful ones too; the keys that these may have had."""

    plays: Sequence[Play]
    suggested: Sequence[Play]
    evident: frozenset[str]


def plays(
    records: Records,
    spans: Iterable[OnAirSpan],
    watches: Sequence[WatchSpan],
    *,
    kept: Iterable[Airing] = (),
    now_ms: int,
) -> Plays:
    """All plays of the records and sightings, by start, none overlapping another.

    `kept` are sound airings that were stored before: one whose evidence is
    gone takes part as it stands, one whose sound was deleted keeps its sound.
    """
    known = {airing.key: airing for airing in kept}
    rows = _sound_rows(records.logs)
    seen = [_from_span(span, watches) for span in _joined(spans)]
    unmatched = _match(rows, seen)
    refuted = [_from_row(row) for row in unmatched if _contradicted(row, seen)]
    logged = [_from_row(row) for row in unmatched if not _contradicted(row, seen)]
    evident = {_key(row.source, row.at_ms) for row in rows}
    evident |= {key for play in seen for key in (play.key, _key(play.source, play.raw_ms))}
    frozen = [
        _from_kept(airing) for airing in known.values() if airing.key not in evident and airing.started_ms <= now_ms
    ]
    for play in (*logged, *seen):
        play.stored = known.get(play.key)
        if play.sound_id is None and play.stored is not None:
            play.sound_id = play.stored.sound_id
    ordered = sorted([*logged, *seen, *frozen], key=_order)
    alive = any(watch.seen_ms >= now_ms - ALIVE_MS for watch in watches)
    for index, play in enumerate(ordered):
        following = next((later for later in ordered[index + 1 :] if later.start_ms > play.start_ms), None)
        twin = index + 1 < len(ordered) and ordered[index + 1].start_ms == play.start_ms
        _end(play, None if twin else following, records.sounds, alive=alive, now_ms=now_ms)
        if twin:
            play.end_ms = play.start_ms  # the later one of two with the same start is the one that stayed
    return Plays(
        plays=[play for play in ordered if play.start_ms < play.end_ms and play.start_ms <= now_ms],
        suggested=[*logged, *seen, *refuted],
        evident=frozenset(evident),
    )


def _order(play: Play) -> tuple[int, int, int]:
    """By start; of two with the same start, what was seen beats what was only logged, the later row the earlier."""
    certainty = 2 if play.span is not None else 1 if play.row is not None else 0
    return play.start_ms, certainty, play.row.id if play.row is not None else 0


def _key(source: str, at_ms: int) -> str:
    return f"sound:{source}:{at_ms}"


# -- rows


def _sound_rows(logs: Iterable[LogRow]) -> list[LogRow]:
    """The rows of sounds and of unknown files, each once: 1.0 writes one per tick for an unknown file."""
    found: dict[tuple[str, int, str | int | None], LogRow] = {}
    for row in sorted(logs, key=lambda row: (row.diffusion_id is None, row.id)):
        if row.kind is LogKind.ON_AIR and row.track_id is None and (row.sound_id is not None or row.item):
            found.setdefault((row.source, row.at_ms, row.item or row.sound_id), row)
    return sorted(found.values(), key=lambda row: (row.at_ms, row.id))


def _from_row(row: LogRow) -> Play:
    return Play(
        key=_key(row.source, row.at_ms),
        source=row.source,
        raw_ms=row.at_ms,
        key_ms=row.at_ms,
        start_ms=row.at_ms,
        start_basis=Basis.LOGGED,
        sound_id=row.sound_id,
        row=row,
    )


def _match(rows: Sequence[LogRow], seen: Iterable[Play]) -> list[LogRow]:
    """The rows that no sighting shows; the others are handed to the play that they belong to."""
    free: dict[int, LogRow] = {row.id: row for row in rows}
    by_source: dict[str, list[LogRow]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    for play in seen:
        candidates = by_source.get(play.source, [])
        first = bisect.bisect_left(candidates, play.raw_ms - SAME_ROW_MS, key=lambda row: row.at_ms)
        last = bisect.bisect_right(candidates, play.raw_ms + SAME_ROW_MS, key=lambda row: row.at_ms)
        fitting = [row for row in candidates[first:last] if row.id in free and _same_file(row, play)]
        if fitting:
            row = min(fitting, key=lambda row: (abs(row.at_ms - play.raw_ms), row.id))
            play.row = free.pop(row.id)
            play.sound_id = play.sound_id if play.sound_id is not None else row.sound_id
    return list(free.values())


def _same_file(row: LogRow, play: Play) -> bool:
    if play.span is None or (row.item and row.item == play.span.item):
        return True
    return row.sound_id is not None and row.sound_id == play.span.sound_id


def _contradicted(row: LogRow, seen: Iterable[Play]) -> bool:
    """Whether the hook saw something on air before, at and after the row's date that is not the row's play."""
    return any(
        play.start_ms + AHEAD_MS < row.at_ms < play.span.seen_ms - AHEAD_MS for play in seen if play.span is not None
    )


# -- sightings


def _joined(spans: Iterable[OnAirSpan]) -> list[OnAirSpan]:
    """Sightings by time; those that a restart of the hook cut in two are one again."""
    joined: list[OnAirSpan] = []
    for span in sorted(spans, key=lambda span: (span.started_ms, span.seen_ms)):
        last = joined[-1] if joined else None
        if last is not None and not last.ended and _identity(last) == _identity(span):
            joined[-1] = replace(span, started_ms=last.started_ms, seen_ms=max(last.seen_ms, span.seen_ms))
        else:
            joined.append(span)
    return joined


def _identity(span: OnAirSpan) -> tuple[str, str, int | None]:
    return span.source, span.item, span.air_time_ms


def _from_span(span: OnAirSpan, watches: Iterable[WatchSpan]) -> Play:
    # The first tick of a stretch shows what began before it.
    came_late = any(watch.started_ms == span.started_ms for watch in watches)
    start_ms, basis = _start(span, came_late=came_late)
    whole_ms = start_ms - start_ms % 1000
    return Play(
        key=_key(span.source, whole_ms),
        source=span.source,
        raw_ms=span.started_ms if span.air_time_ms is None else span.air_time_ms,
        key_ms=whole_ms,
        start_ms=start_ms,
        start_basis=basis,
        sound_id=span.sound_id,
        span=span,
    )


def _start(span: OnAirSpan, *, came_late: bool) -> tuple[int, Basis]:
    """When the play began.

    Liquidsoap's air time where the first sighting agrees with it, be it
    whole hours off: it is wall time, taken in another zone or in the wrong
    one of the autumn's two equal hours. An old air time means that an
    interrupted item went on: then it is the first sighting, unless the hook
    itself had just begun to watch.
    """
    if span.air_time_ms is None:
        return span.started_ms, Basis.OBSERVED
    lag_ms = span.started_ms - span.air_time_ms
    if came_late and 0 <= lag_ms <= LONGEST_MS:
        return span.air_time_ms, Basis.OBSERVED if lag_ms <= AGREE_MS else Basis.LOGGED
    hours = round((lag_ms - AGREE_MS // 2) / HOUR_MS)
    if abs(hours) <= WIDEST_SHIFT_HOURS and -AHEAD_MS <= lag_ms - hours * HOUR_MS <= AGREE_MS:
        return span.air_time_ms + hours * HOUR_MS, Basis.OBSERVED
    if came_late and -WIDEST_SHIFT_HOURS * HOUR_MS <= lag_ms < 0:
        # It lies in the future by some hours: the latest that does not.
        return span.air_time_ms + (lag_ms // HOUR_MS) * HOUR_MS, Basis.LOGGED
    return span.started_ms, Basis.OBSERVED


def _from_kept(airing: Airing) -> Play:
    source, _, at = airing.key.removeprefix("sound:").rpartition(":")
    return Play(
        key=airing.key,
        source=source,
        raw_ms=int(at),
        key_ms=int(at),
        start_ms=airing.started_ms,
        start_basis=airing.start_basis,
        end_ms=airing.ended_ms,
        end_basis=airing.end_basis,
        sound_id=airing.sound_id,
        frozen=airing,
    )


# -- ends


def _end(play: Play, following: Play | None, sounds: Mapping[int, SoundRow], *, alive: bool, now_ms: int) -> None:
    """Nothing; the play has its end, and it is no later than the start of what follows."""
    if play.frozen is None:
        expected_ms = _expected(play, sounds)
        if play.span is not None and play.span.ended:
            _end_as_seen(play, play.span, following)
        else:
            _end_as_expected(play, expected_ms, is_last=following is None, alive=alive, now_ms=now_ms)
    if following is not None and following.start_ms < play.end_ms:
        play.end_ms, play.is_running = following.start_ms, False


def _expected(play: Play, sounds: Mapping[int, SoundRow]) -> int | None:
    """When the play should end by itself, None where nothing tells its length."""
    if play.span is not None and play.span.remaining_ms:
        return play.span.seen_ms + play.span.remaining_ms
    sound = sounds.get(play.sound_id) if play.sound_id is not None else None
    if sound is not None:
        return None if sound.duration_ms is None else play.start_ms + sound.duration_ms
    stored = play.stored
    # The sound was deleted, and its length with it.
    knew = stored is not None and stored.sound_id is not None and not stored.is_running
    return stored.ended_ms if stored is not None and knew else None


def _end_as_seen(play: Play, span: OnAirSpan, following: Play | None) -> None:
    play.end_ms, play.end_basis = span.seen_ms, Basis.OBSERVED
    # What follows knows its own start better than the tick that first showed it.
    if following is not None and -AHEAD_MS <= span.seen_ms - following.start_ms <= AGREE_MS:
        play.end_ms = following.start_ms


def _end_as_expected(play: Play, expected_ms: int | None, *, is_last: bool, alive: bool, now_ms: int) -> None:
    """Nothing; nobody saw the end. What may still be on air ends when it should, or now."""
    seen_ms = play.start_ms if play.span is None else play.span.seen_ms
    if play.span is not None:
        still = is_last and alive and seen_ms >= now_ms - ALIVE_MS
        end_ms = max(expected_ms or seen_ms, seen_ms)
    else:
        still = is_last and now_ms < (expected_ms or play.start_ms + LONGEST_UNKNOWN_MS)
        end_ms = expected_ms or play.start_ms + LONGEST_UNKNOWN_MS
    if still:
        end_ms = max(expected_ms or now_ms, now_ms)
    play.end_ms, play.end_basis = end_ms, Basis.INFERRED
    play.has_known_end = play.span is not None or expected_ms is not None
    play.is_running = still or (is_last and play.start_ms <= now_ms < end_ms)
