"""What was on air: diffusions, sounds and tracks of a station, each with bounds and what these stand on.

The rules, in the order in which they beat each other (docs/onair.md has them
with their reasons):

1. What the Monitor hook saw beats a row, a row beats a plan, a plan beats a guess.
2. The schedule beats the track log: what is not a diffusion's own does not sound in it.
3. A diffusion that left evidence beats one that is only planned.
4. Of two diffusions the one that starts later cuts the other.
5. Evidence that is gone leaves what was known.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from .airlog import LogKind, LogRow, OnAirSpan, Records, TrackRow, WatchSpan
from .diffusions import Candidate, aired, assign, diffusion_key
from .plays import Play, Plays, plays
from .types import Airing, Basis, Layer

__all__ = ["Timeline", "build"]

TRACK_ALONE_MS = 10 * 60_000
"""A track of which nothing but its row is known ends by then."""
SAME_SECOND_MS = 1_000
"""A track's row is dated in whole seconds from its sound's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Airings by layer and start.

    `gone` are the keys of those that stand on nothing but what was stored
    before. `dropped` are keys that the evidence suggests and that are known
    not to have been on air, or not under that key.
    """

    airings: Sequence[Airing]
    gone: frozenset[str]
    dropped: frozenset[str]


def build(
    records: Records,
    spans: Sequence[OnAirSpan] = (),
    watches: Sequence[WatchSpan] = (),
    *,
    kept: Iterable[Airing] = (),
    now_ms: int,
) -> Timeline:
    """The timeline of the records' time. `kept` is what was stored of it before, if anything.

    Whatever reaches beyond the records is as good as they reach, so take
    them with a margin of a day. Building twice gives the same twice.
    """
    stored: dict[Layer, dict[str, Airing]] = {layer: {} for layer in Layer}
    for airing in kept:
        stored[airing.layer][airing.key] = airing
    played = plays(records, spans, watches, kept=stored[Layer.SOUND].values(), now_ms=now_ms)
    own = assign(played.plays, records, stored[Layer.SOUND])
    diffusions = aired(records, played.plays, own, watches, stored[Layer.DIFFUSION], now_ms=now_ms)
    sounds = _sounds(played.plays, own, diffusions, records, now_ms)
    tracks = _tracks(sounds, diffusions, played, records, stored[Layer.TRACK], now_ms)
    airings = [one.airing for one in diffusions]
    airings += [sound.airing for sound in sounds]
    airings += sorted(tracks.airings, key=lambda airing: (airing.started_ms, airing.key))
    gone = {one.airing.key for one in diffusions if one.is_gone} | tracks.gone
    gone |= {sound.airing.key for sound in sounds if sound.play.frozen is not None}
    suggested = {diffusion_key(row.id) for row in records.diffusions} | played.evident | tracks.suggested
    dropped = suggested - {airing.key for airing in airings}
    airings = [_settled(airing, now_ms) for airing in airings]
    return Timeline(airings=airings, gone=frozenset(gone), dropped=frozenset(dropped))


def _settled(airing: Airing, now_ms: int) -> Airing:
    """The airing, no longer running where something has cut it."""
    is_running = airing.is_running and airing.started_ms <= now_ms <= airing.ended_ms
    return airing if is_running == airing.is_running else replace(airing, is_running=is_running)


# -- sounds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sound:
    """A play and what of it was heard."""

    play: Play
    airing: Airing


def _sounds(
    found: Sequence[Play],
    own: Mapping[int, Sequence[Play]],
    diffusions: Sequence[Candidate],
    records: Records,
    now_ms: int,
) -> list[_Sound]:
    """Every play as an airing, cut to what other diffusions leave of it."""
    owner = {play.key: diffusion_id for diffusion_id, ours in own.items() for play in ours}
    on_air = {one.airing.diffusion_id for one in diffusions}
    sounds = []
    for play in found:
        diffusion_id = owner.get(play.key)
        airing = _sound(play, diffusion_id if diffusion_id in on_air else None, records)
        for one in diffusions:
            if one.airing.diffusion_id != diffusion_id and (one.is_sure or play.span is None):
                airing = _outside(airing, one.airing, has_known_end=play.has_known_end)
        if airing.started_ms < airing.ended_ms and airing.started_ms <= now_ms:
            sounds.append(_Sound(play=play, airing=airing))
    return sounds


def _sound(play: Play, diffusion_id: int | None, records: Records) -> Airing:
    if play.frozen is not None:
        bounds = {"started_ms": play.start_ms, "ended_ms": play.end_ms, "end_basis": play.end_basis}
        return replace(play.frozen, is_running=False, **bounds)
    sound = records.sounds.get(play.sound_id) if play.sound_id is not None else None
    seen, stored = play.span, play.stored
    if sound is None and stored is not None and stored.sound_id is not None:
        return replace(
            stored,
            started_ms=play.start_ms,
            ended_ms=play.end_ms,
            start_basis=play.start_basis,
            end_basis=play.end_basis,
            diffusion_id=diffusion_id,
            is_running=play.is_running,
        )
    return Airing(
        station_id=records.station_id,
        layer=Layer.SOUND,
        key=play.key,
        started_ms=play.start_ms,
        ended_ms=play.end_ms,
        start_basis=play.start_basis,
        end_basis=play.end_basis,
        title=sound.title if sound is not None else seen.title if seen is not None else "",
        artist=seen.artist if seen is not None and sound is None else "",
        program_id=sound.program_id if sound is not None else None,
        program_title=sound.program_title if sound is not None else "",
        episode_id=sound.episode_ids[0] if sound is not None and sound.episode_ids else None,
        diffusion_id=diffusion_id,
        sound_id=play.sound_id,
        is_live=play.is_live,
        is_running=play.is_running,
    )


def _outside(airing: Airing, diffusion: Airing, *, has_known_end: bool) -> Airing:
    """What of a sound is left by a diffusion that it does not belong to: the part before it, else the part after.

    Nothing shows that a sound of unknown length is still there after it.
    """
    if diffusion.ended_ms <= airing.started_ms or airing.ended_ms <= diffusion.started_ms:
        return airing
    if airing.started_ms < diffusion.started_ms:
        return replace(airing, ended_ms=diffusion.started_ms, end_basis=diffusion.start_basis)
    return replace(
        airing,
        started_ms=min(diffusion.ended_ms, airing.ended_ms) if has_known_end else airing.ended_ms,
        start_basis=diffusion.end_basis,
    )


# -- tracks


@dataclass(slots=True, kw_only=True)
class _Tracks:
    airings: list[Airing] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    suggested: set[str] = field(default_factory=set)


def _tracks(
    sounds: Sequence[_Sound],
    diffusions: Sequence[Candidate],
    played: Plays,
    records: Records,
    kept: Mapping[str, Airing],
    now_ms: int,
) -> _Tracks:
    """Tracks by their place in the sound that was on air; those of a lost sound by their own row.

    A track of which only the position is known cannot be placed in time.
    """
    tracks = _Tracks()
    by_sound: dict[int, list[TrackRow]] = defaultdict(list)
    for track in records.tracks:
        if track.sound_id is not None and track.offset_ms is not None:
            by_sound[track.sound_id].append(track)
    logged = {(row.track_id, row.at_ms // SAME_SECOND_MS) for row in _track_rows(records.logs)}
    for timed in by_sound.values():
        timed.sort(key=_by_offset)
    for play in played.suggested:
        tracks.suggested.update(_keys(play, by_sound.get(play.sound_id or 0, ())))
    for sound in sounds:
        if sound.play.frozen is None:
            _place(tracks, sound, by_sound.get(sound.play.sound_id or 0, ()), logged, now_ms)
    _place_alone(tracks, sounds, diffusions, records, now_ms)
    known = {airing.key for airing in tracks.airings} | tracks.suggested
    for key, stored in kept.items():
        if key not in known and stored.started_ms <= now_ms and not _is_told_anew(stored, sounds, records):
            tracks.airings.append(replace(stored, is_running=False))
            tracks.gone.add(key)
        elif key not in known:
            tracks.suggested.add(key)
    return tracks


def _by_offset(track: TrackRow) -> tuple[int, int, int]:
    return track.offset_ms or 0, track.position, track.id


def _track_rows(logs: Iterable[LogRow]) -> Iterator[LogRow]:
    return (row for row in logs if row.kind is LogKind.ON_AIR and row.track_id is not None)


def _track_key(track_id: int | None, at_ms: int) -> str:
    return f"track:{track_id}:{at_ms}"


def _keys(play: Play, timed: Iterable[TrackRow]) -> Iterator[str]:
    """Every key that the tracks of a play may have been stored under."""
    begins = {play.key_ms, play.raw_ms, play.row.at_ms if play.row is not None else play.raw_ms}
    return (_track_key(track.id, at_ms + (track.offset_ms or 0)) for track in timed for at_ms in begins)


def _place(tracks: _Tracks, sound: _Sound, timed: Sequence[TrackRow], logged: set, now_ms: int) -> None:
    """Nothing; the timed tracks of one sound are placed on its own air time, up to the next track."""
    play, heard = sound.play, sound.airing
    for index, track in enumerate(timed):
        offset_ms = track.offset_ms or 0
        at_ms = play.start_ms + offset_ms
        key = _track_key(track.id, play.key_ms + offset_ms)
        later_ms = play.start_ms + (timed[index + 1].offset_ms or 0) if index + 1 < len(timed) else heard.ended_ms
        start_ms, end_ms = max(at_ms, heard.started_ms), min(later_ms, heard.ended_ms)
        if start_ms >= end_ms or start_ms > now_ms:
            continue
        was_logged = (track.id, (play.raw_ms + offset_ms) // SAME_SECOND_MS) in logged
        basis = Basis.LOGGED if was_logged else Basis.INFERRED
        tracks.airings.append(
            _track(
                track,
                heard,
                key=key,
                started_ms=start_ms,
                ended_ms=end_ms,
                start_basis=basis if start_ms == at_ms else heard.start_basis,
                end_basis=heard.end_basis if end_ms == heard.ended_ms else Basis.INFERRED,
                is_running=start_ms <= now_ms < end_ms,
            )
        )


def _place_alone(
    tracks: _Tracks, sounds: Sequence[_Sound], diffusions: Sequence[Candidate], records: Records, now_ms: int
) -> None:
    """Nothing; tracks whose sound left no row are placed by their own, where nothing else was on air."""
    known = {track.id: track for track in records.tracks}
    rows = {(row.track_id, row.at_ms): row for row in _track_rows(records.logs)}
    on_air = [*(sound.airing for sound in sounds), *(one.airing for one in diffusions)]
    bounds = _union((airing.started_ms, airing.ended_ms) for airing in on_air)
    alone = [row for row in rows.values() if not _is_within(bounds, row.at_ms)]
    alone.sort(key=lambda row: (row.at_ms, row.id))
    for row, later in zip_longest(alone, alone[1:]):
        track = known.get(row.track_id)
        key = _track_key(row.track_id, row.at_ms)
        tracks.suggested.add(key)
        if track is None or row.at_ms > now_ms:
            continue
        following = bisect.bisect_right(bounds, (row.at_ms, row.at_ms))
        limits = [row.at_ms + TRACK_ALONE_MS]
        limits += [bounds[following][0]] if following < len(bounds) else []
        limits += [later.at_ms] if later is not None else []
        place = Airing(
            station_id=records.station_id,
            layer=Layer.TRACK,
            key=key,
            started_ms=row.at_ms,
            ended_ms=min(limits),
            start_basis=Basis.LOGGED,
            end_basis=Basis.INFERRED,
            sound_id=track.sound_id,
            is_running=row.at_ms <= now_ms < min(limits),
        )
        if place.ended_ms > place.started_ms:
            tracks.airings.append(_track(track, place))


def _union(bounds: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The intervals run together, in order."""
    union: list[tuple[int, int]] = []
    for start_ms, end_ms in sorted(bounds):
        if union and start_ms <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end_ms))
        else:
            union.append((start_ms, end_ms))
    return union


def _is_within(union: Sequence[tuple[int, int]], at_ms: int) -> bool:
    index = bisect.bisect_right(union, at_ms, key=lambda one: one[0]) - 1
    return index >= 0 and at_ms < union[index][1]


def _track(track: TrackRow, place: Airing, **changes: object) -> Airing:
    """The track's airing within the sound's."""
    return replace(
        place, layer=Layer.TRACK, title=track.title, artist=track.artist, track_id=track.id, is_live=False, **changes
    )


def _is_told_anew(stored: Airing, sounds: Sequence[_Sound], records: Records) -> bool:
    """Whether the sound of a stored track still exists and has its evidence: then its tracks were placed from that."""
    return stored.sound_id in records.sounds and any(
        sound.play.frozen is None
        and sound.airing.sound_id == stored.sound_id
        and sound.airing.started_ms <= stored.started_ms < sound.airing.ended_ms
        for sound in sounds
    )
