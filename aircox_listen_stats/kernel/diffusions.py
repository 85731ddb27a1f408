"""When each diffusion really was on air: the plan, the rows and the sightings weighed against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .airlog import DiffusionKind, DiffusionRow, LogKind, LogRow, Records, WatchSpan
from .plays import AGREE_MS, Play
from .types import Airing, Basis, Layer

__all__ = ["Candidate", "aired", "assign", "diffusion_key"]

DEALER = "dealer"
"""aircox's name of the queue that plays diffusions."""
FIRST_SOUND_MS = 10_000
"""A diffusion's first sound follows its START row within this, unless its row is missing."""
OVERRUN_MS = 4 * 3_600_000
"""A diffusion that was started may still play this long after its planned end."""
BETWEEN_SOUNDS_MS = 30_000
"""Until this long after one sound of a diffusion its next one may come."""
WAIT_FOR_START_MS = 60_000
"""Under the hook's eye, an archive that is not on air by then is late, or never comes."""
STRONG = frozenset({Basis.OBSERVED, Basis.LOGGED})

CANCELLED_ON_AIR = "cancelled while on air"
CANCELLED_BY_MONITOR = "cancelled by the monitor while on air"
NOT_SEEN_TO_START = "not seen to start"
CUT = "cut by the next diffusion"


@dataclass(slots=True, kw_only=True)
class Candidate:
    """A diffusion that may have been on air.

    `is_sure`: it left evidence, or it is live, which leaves none. `is_gone`:
    the evidence was there once, and is no more.
    """

    airing: Airing
    is_sure: bool
    is_gone: bool = False


def diffusion_key(diffusion_id: int) -> str:
    """The key of a diffusion's airing."""
    return f"diffusion:{diffusion_id}"


def aired(
    records: Records,
    played: Sequence[Play],
    own: Mapping[int, Sequence[Play]],
    watches: Sequence[WatchSpan],
    kept: Mapping[str, Airing],
    *,
    now_ms: int,
) -> list[Candidate]:
    """The diffusions that were, are or will be on air, by start, none overlapping another.

    `own` are the plays of each diffusion, as `assign()` found them. `kept`
    are diffusion airings by key as they were stored before.
    """
    starts = _starts(records.logs)
    found = []
    for row in records.diffusions:
        stored = kept.get(diffusion_key(row.id))
        plays = own.get(row.id, ())
        candidate = _candidate(records, row, starts.get(row.id), plays, watches, now_ms)
        if stored is not None and _has_faded(stored, row, starts.get(row.id), plays):
            candidate = Candidate(airing=replace(stored, is_running=False), is_sure=True, is_gone=True)
        if candidate is not None and stored is None and not candidate.is_sure and _is_disproved(candidate, played):
            candidate = None
        if candidate is not None:
            if stored is not None and candidate.airing.initial_id is None:
                # aircox forgets the first run when that is deleted.
                candidate.airing = replace(candidate.airing, initial_id=stored.initial_id)
            found.append(candidate)
    known = {diffusion_key(row.id) for row in records.diffusions}
    for key, stored in kept.items():
        # Deleted in aircox: what had begun was on air all the same.
        if key not in known and stored.started_ms <= now_ms:
            is_sure = stored.is_live or stored.start_basis in STRONG
            found.append(Candidate(airing=replace(stored, is_running=False), is_sure=is_sure, is_gone=True))
    return _resolved(found)


def _is_disproved(candidate: Candidate, played: Sequence[Play]) -> bool:
    """Whether something else was stored in its time, and it was not, while there was evidence to judge by."""
    start_ms, end_ms = candidate.airing.started_ms, candidate.airing.ended_ms
    return any(play.frozen is not None and play.start_ms < end_ms and play.end_ms > start_ms for play in played)


def _has_faded(stored: Airing, row: DiffusionRow, started_ms: int | None, plays: Sequence[Play]) -> bool:
    """Whether aircox's rows proved this diffusion once, prove it no more, and nobody moved it since."""
    was_proved = stored.start_basis in STRONG
    is_proved = started_ms is not None or any(play.frozen is None for play in plays)
    return was_proved and not is_proved and stored.scheduled_start_ms == row.start_ms


# -- whose play is it


def assign(found: Sequence[Play], records: Records, kept: Mapping[str, Airing]) -> dict[int, list[Play]]:
    """The plays of each diffusion, in order; plays of none are absent.

    The rows alone name the diffusion only for what begins within its planned
    time: an overrun, a start a fraction of a second early and a diffusion
    that was cancelled while on air lose it, so the sound's episode is asked.
    Where the diffusion was deleted since, `kept`, the sound airings as they
    were stored, still know it.
    """
    starts = _starts(records.logs)
    known = {row.id for row in records.diffusions}
    by_episode: dict[int, list[DiffusionRow]] = defaultdict(list)
    for row in records.diffusions:
        if row.episode_id is not None:
            by_episode[row.episode_id].append(row)
    lives = [row for row in records.diffusions if row.kind is DiffusionKind.ON_AIR and not row.archive_ids]
    own: dict[int, list[Play]] = defaultdict(list)
    for play in found:
        diffusion_id: int | None
        if play.frozen is not None:
            diffusion_id = play.frozen.diffusion_id
        elif play.row is not None and play.row.diffusion_id in known:
            diffusion_id = play.row.diffusion_id
        elif play.is_live:
            diffusion_id = _live_diffusion(play, lives)
        else:
            diffusion_id = _archived_diffusion(play, records, by_episode, starts)
        stored = kept.get(play.key)
        if diffusion_id is None and stored is not None and stored.diffusion_id not in known:
            diffusion_id = stored.diffusion_id
        if diffusion_id is not None:
            own[diffusion_id].append(play)
    return dict(own)


def _starts(logs: Iterable[LogRow]) -> dict[int, int]:
    """When each diffusion was first started."""
    starts: dict[int, int] = {}
    for row in logs:
        if row.kind is LogKind.START and row.diffusion_id is not None:
            starts[row.diffusion_id] = min(row.at_ms, starts.get(row.diffusion_id, row.at_ms))
    return starts


def _archived_diffusion(
    play: Play, records: Records, by_episode: Mapping[int, Sequence[DiffusionRow]], starts: Mapping[int, int]
) -> int | None:
    """The last diffusion of the sound's episode that had begun when the dealer played it."""
    sound = records.sounds.get(play.sound_id) if play.sound_id is not None else None
    if sound is None or play.source != DEALER:
        return None
    fitting = []
    for row in (row for episode_id in sound.episode_ids for row in by_episode.get(episode_id, ())):
        started_ms = starts.get(row.id)
        if started_ms is not None:
            began_ms, reach_ms = started_ms, max(row.end_ms, started_ms) + OVERRUN_MS
        elif row.kind is DiffusionKind.ON_AIR:
            began_ms, reach_ms = row.start_ms, row.end_ms
        else:
            continue
        if began_ms - AGREE_MS <= play.start_ms < reach_ms:
            fitting.append((began_ms, row.id))
    return max(fitting)[1] if fitting else None


def _live_diffusion(play: Play, lives: Iterable[DiffusionRow]) -> int | None:
    """The live diffusion that fills most of a live input's time."""
    shares = [(min(play.end_ms, row.end_ms) - max(play.start_ms, row.start_ms), row.start_ms, row.id) for row in lives]
    best = max((share for share in shares if share[0] > 0), default=None)
    return None if best is None else best[2]


# -- one diffusion


def _candidate(
    records: Records,
    row: DiffusionRow,
    started_ms: int | None,
    plays: Sequence[Play],
    watches: Sequence[WatchSpan],
    now_ms: int,
) -> Candidate | None:
    """The diffusion with its bounds, None where it was not on air."""
    if row.end_ms <= row.start_ms and started_ms is None and not plays:
        return None
    if started_ms is None and not plays:
        if row.kind is not DiffusionKind.ON_AIR:
            return None
        if not row.archive_ids:
            return Candidate(airing=_planned(records, row, now_ms, is_live=True), is_sure=True)
        if _is_seen_to_be_missing(row, watches, now_ms):
            return None
        airing = _planned(records, row, now_ms, is_live=False)
        if row.start_ms + WAIT_FOR_START_MS <= now_ms:
            airing = replace(airing, notes=(NOT_SEEN_TO_START,))
        return Candidate(airing=airing, is_sure=False)
    if plays and all(play.is_live for play in plays):
        return Candidate(airing=_live(records, row, plays, now_ms), is_sure=True)
    return Candidate(airing=_archived(records, row, started_ms, plays, now_ms), is_sure=True)


def _is_seen_to_be_missing(row: DiffusionRow, watches: Iterable[WatchSpan], now_ms: int) -> bool:
    """Whether the hook watched all of the planned time so far, and none of it was the diffusion's."""
    if now_ms < row.start_ms + WAIT_FOR_START_MS:
        return False
    end_ms = min(row.end_ms, now_ms)
    return any(watch.started_ms <= row.start_ms and end_ms - AGREE_MS <= watch.seen_ms for watch in watches)


def _planned(records: Records, row: DiffusionRow, now_ms: int, *, is_live: bool) -> Airing:
    return Airing(
        station_id=records.station_id,
        layer=Layer.DIFFUSION,
        key=diffusion_key(row.id),
        started_ms=row.start_ms,
        ended_ms=row.end_ms,
        start_basis=Basis.SCHEDULED,
        end_basis=Basis.SCHEDULED,
        title=row.title,
        program_id=row.program_id,
        program_title=row.program_title,
        episode_id=row.episode_id,
        diffusion_id=row.id,
        initial_id=row.initial_id,
        is_live=is_live,
        is_running=row.start_ms <= now_ms < row.end_ms,
        scheduled_start_ms=row.start_ms,
        scheduled_end_ms=row.end_ms,
    )


def _live(records: Records, row: DiffusionRow, plays: Sequence[Play], now_ms: int) -> Airing:
    """A live diffusion that the hook saw on a live input: it may come late, leave early, or stay on."""
    planned = _planned(records, row, now_ms, is_live=True)
    first, last = plays[0], plays[-1]
    start_ms, start_basis = row.start_ms, Basis.SCHEDULED
    if first.start_ms >= row.start_ms - AGREE_MS:
        start_ms, start_basis = first.start_ms, Basis.OBSERVED
    end_ms, end_basis = last.end_ms, last.end_basis
    if last.is_running:
        end_ms, end_basis = max(row.end_ms, now_ms), Basis.SCHEDULED if row.end_ms > now_ms else Basis.INFERRED
    return replace(
        planned,
        started_ms=start_ms,
        ended_ms=end_ms,
        start_basis=start_basis,
        end_basis=end_basis,
        is_running=start_ms <= now_ms < end_ms or last.is_running,
    )


def _archived(
    records: Records, row: DiffusionRow, started_ms: int | None, plays: Sequence[Play], now_ms: int
) -> Airing:
    """A diffusion with sounds, from its START row or first sound to the end of its last one."""
    start_ms, start_basis = _began(row, started_ms, plays)
    end_ms, end_basis, is_running = _ended(records, row, start_ms, plays, now_ms)
    notes: tuple[str, ...] = ()
    if row.kind is DiffusionKind.CANCELLED:
        # Started more than its timeout too late, the Monitor starts and cancels it in one tick: it is on air.
        given_up = any(log.kind is LogKind.CANCEL and log.diffusion_id == row.id for log in records.logs)
        notes = (CANCELLED_BY_MONITOR,) if given_up else (CANCELLED_ON_AIR,)
    return replace(
        _planned(records, row, now_ms, is_live=False),
        started_ms=start_ms,
        ended_ms=max(end_ms, start_ms + 1),
        start_basis=start_basis,
        end_basis=end_basis,
        is_running=is_running,
        notes=notes,
    )


def _began(row: DiffusionRow, started_ms: int | None, plays: Sequence[Play]) -> tuple[int, Basis]:
    """The first sound's start; the START row's where the first sound's row is missing.

    A sound's air time is cut to whole seconds, START is not: where both tell
    of the same moment, the later one is the truer.
    """
    first = plays[0] if plays else None
    if started_ms is None:
        assert first is not None, "a diffusion on air has a START row or a sound"
        near = 0 < row.start_ms - first.start_ms <= AGREE_MS
        return (row.start_ms if near else first.start_ms), first.start_basis
    if first is None or first.start_ms > started_ms + FIRST_SOUND_MS:
        return started_ms, Basis.LOGGED
    if started_ms - first.start_ms <= AGREE_MS:
        return max(started_ms, first.start_ms), first.start_basis
    return first.start_ms, first.start_basis


def _ended(
    records: Records, row: DiffusionRow, start_ms: int, plays: Sequence[Play], now_ms: int
) -> tuple[int, Basis, bool]:
    """The end, its basis, and whether it is still to come."""
    lengths = [records.sounds[one].duration_ms if one in records.sounds else None for one in row.archive_ids]
    if lengths and None not in lengths:
        expected_ms, basis = start_ms + sum(length or 0 for length in lengths), Basis.INFERRED
    else:
        expected_ms, basis = max(row.end_ms, start_ms), Basis.SCHEDULED
    if not plays:
        return expected_ms, basis, start_ms <= now_ms < expected_ms
    last = plays[-1]
    to_come = len({play.sound_id for play in plays}) < len(row.archive_ids) and now_ms < expected_ms
    if last.is_running or (to_come and now_ms - last.end_ms <= BETWEEN_SOUNDS_MS):
        return max(expected_ms, last.end_ms), basis if expected_ms >= last.end_ms else last.end_basis, True
    return last.end_ms, last.end_basis, False


# -- several diffusions


def _resolved(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without overlaps: sure ones first, and of these the one that starts later cuts the other."""
    sure = sorted((one for one in found if one.is_sure), key=_precedence)
    placed: list[Candidate] = []
    for index, one in enumerate(sure):
        following = sure[index + 1] if index + 1 < len(sure) else None
        if following is not None and following.airing.started_ms < one.airing.ended_ms:
            one.airing = _cut(one.airing, following.airing)
        if one.airing.started_ms < one.airing.ended_ms:
            placed.append(one)
    for one in sorted((one for one in found if not one.is_sure), key=_precedence):
        for other in placed:
            one.airing = _beside(one.airing, other.airing)
        if one.airing.started_ms < one.airing.ended_ms:
            placed.append(one)
    return sorted(placed, key=_precedence)


def _precedence(one: Candidate) -> tuple[int, bool, int]:
    """By start; of two with the same start the one with evidence comes last, and so stays."""
    airing = one.airing
    return airing.started_ms, airing.start_basis in STRONG, airing.diffusion_id or 0


def _cut(airing: Airing, by: Airing) -> Airing:
    return replace(
        airing,
        ended_ms=by.started_ms,
        end_basis=by.start_basis,
        notes=(*(note for note in airing.notes if note != CUT), CUT),
    )


def _beside(airing: Airing, other: Airing) -> Airing:
    """What of a merely planned airing lies outside another one: the part before it, else the part after it."""
    if other.ended_ms <= airing.started_ms or airing.ended_ms <= other.started_ms:
        return airing
    if airing.started_ms < other.started_ms:
        return _cut(airing, other)
    return replace(airing, started_ms=min(other.ended_ms, airing.ended_ms), start_basis=other.end_basis)
