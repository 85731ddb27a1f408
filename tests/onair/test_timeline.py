"""The timeline's rules, one table per kind of trouble in a station's books. Seconds from the start of an evening."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest

from aircox_listen_stats.kernel.airlog import (
    DiffusionKind,
    DiffusionRow,
    LogKind,
    LogRow,
    OnAirSpan,
    Records,
    SoundRow,
    TrackRow,
    WatchSpan,
)
from aircox_listen_stats.kernel.timeline import Timeline, build
from aircox_listen_stats.kernel.types import Airing, Layer

EVENING_MS = 1_772_478_000_000  # 2026-03-02 19:00 UTC
HOUR = 3600
DAY = 24 * HOUR
LATER = DAY
BASES = {"observed": "O", "logged": "L", "scheduled": "S", "inferred": "I"}

SOUNDS = {
    1: SoundRow(id=1, title="one", program_id=7, duration_ms=180_000),
    2: SoundRow(id=2, title="two", program_id=7, duration_ms=120_000),
    3: SoundRow(id=3, title="of unknown length", program_id=7),
    4: SoundRow(id=4, title="jingle", program_id=8, duration_ms=6_000),
    11: SoundRow(id=11, title="part 1", program_id=9, episode_ids=(100,), duration_ms=300_000),
    12: SoundRow(id=12, title="part 2", program_id=9, episode_ids=(100,), duration_ms=200_000),
    21: SoundRow(id=21, title="other show", program_id=9, episode_ids=(200,), duration_ms=600_000),
}
TRACKS = [
    TrackRow(id=51, sound_id=1, offset_ms=0, title="first"),
    TrackRow(id=52, sound_id=1, offset_ms=100_000, title="second"),
    TrackRow(id=53, sound_id=1, position=3, title="somewhere"),
    TrackRow(id=61, sound_id=12, offset_ms=50_000, title="in the show"),
]
numbers = itertools.count(1)


def ms(seconds: float) -> int:
    return EVENING_MS + round(seconds * 1000)


def played(at: float, sound: int | None, source: str = "night", **fields: Any) -> LogRow:
    item = fields.pop("item", f"file {sound}")
    return LogRow(
        id=next(numbers), kind=LogKind.ON_AIR, at_ms=ms(at), source=source, item=item, sound_id=sound, **fields
    )


def track(at: float, id: int, source: str = "night") -> LogRow:
    return LogRow(id=next(numbers), kind=LogKind.ON_AIR, at_ms=ms(at), source=source, track_id=id)


def start(at: float, diffusion: int) -> LogRow:
    return LogRow(id=next(numbers), kind=LogKind.START, at_ms=ms(at), source="dealer", diffusion_id=diffusion)


def cancel(at: float, diffusion: int) -> LogRow:
    return LogRow(id=next(numbers), kind=LogKind.CANCEL, at_ms=ms(at), source="dealer", diffusion_id=diffusion)


def plan(id: int, begin: float, end: float, episode: int = 100, **fields: Any) -> DiffusionRow:
    fields.setdefault("archive_ids", {100: (11, 12), 200: (21,)}.get(episode, ()))
    fields.setdefault("kind", DiffusionKind.ON_AIR)
    return DiffusionRow(
        id=id, start_ms=ms(begin), end_ms=ms(end), episode_id=episode, title=f"episode {episode}", **fields
    )


def seen(begin: float, end: float, sound: int | None, source: str = "night", **fields: Any) -> OnAirSpan:
    air = fields.pop("air", begin)
    fields.setdefault("ended", True)
    fields.setdefault("item", f"file {sound}")
    return OnAirSpan(
        source=source,
        started_ms=ms(begin + 0.4),
        seen_ms=ms(end + 0.4),
        air_time_ms=None if air is None else ms(air),
        sound_id=sound,
        **fields,
    )


def watch(begin: float, end: float) -> WatchSpan:
    return WatchSpan(started_ms=ms(begin), seen_ms=ms(end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    fact: str
    logs: tuple[LogRow, ...] = ()
    diffusions: tuple[DiffusionRow, ...] = ()
    spans: tuple[OnAirSpan, ...] = ()
    watches: tuple[WatchSpan, ...] = ()
    kept: tuple[Airing, ...] = ()
    now: float = LATER
    on_diffusions: tuple = ()  # (id, start, end, bases)
    on_sounds: tuple = ()  # (sound id or None, start, end, bases)
    on_tracks: tuple | None = None


def built(case: Case, **changes: Any) -> Timeline:
    records = Records(station_id=1, logs=case.logs, diffusions=case.diffusions, sounds=SOUNDS, tracks=TRACKS)
    return build(
        changes.get("records", records),
        case.spans,
        case.watches,
        kept=changes.get("kept", case.kept),
        now_ms=ms(case.now),
    )


def rows(timeline: Timeline, layer: Layer) -> tuple:
    number = {Layer.DIFFUSION: "diffusion_id", Layer.SOUND: "sound_id", Layer.TRACK: "track_id"}[layer]
    return tuple(
        (
            getattr(one, number),
            (one.started_ms - EVENING_MS) / 1000,
            (one.ended_ms - EVENING_MS) / 1000,
            BASES[one.start_basis] + BASES[one.end_basis],
        )
        for one in timeline.airings
        if one.layer is layer
    )


FLOOD = tuple(played(0, None, item="unknown file") for _ in range(5))

STREAMS = [
    Case(
        fact="a sound ends when it is over, or when the next row begins",
        logs=(played(0, 1), played(60, 2), played(300, 1)),
        on_sounds=((1, 0, 60, "LI"), (2, 60, 180, "LI"), (1, 300, 480, "LI")),
    ),
    Case(
        fact="rows are ordered by their date, not by their number",
        logs=(played(60, 2), played(0, 1)),
        on_sounds=((1, 0, 60, "LI"), (2, 60, 180, "LI")),
    ),
    Case(
        fact="1.0's flood of an unknown file is one airing, that lasts until something is known again",
        logs=(*FLOOD, played(90, 2)),
        on_sounds=((None, 0, 90, "LI"), (2, 90, 210, "LI")),
        on_tracks=(),
    ),
    Case(
        fact="a sound of unknown length lasts until the next row",
        logs=(played(0, 3), played(1000, 2)),
        on_sounds=((3, 0, 1000, "LI"), (2, 1000, 1120, "LI")),
    ),
    Case(
        fact="a sound of unknown length with nothing after it is capped",
        logs=(played(0, 3),),
        on_sounds=((3, 0, 4 * HOUR, "LI"),),
    ),
    Case(
        fact="a dead Monitor leaves a gap: a sound does not last longer than its file",
        logs=(played(0, 1), played(2 * HOUR, 2)),
        on_sounds=((1, 0, 180, "LI"), (2, 2 * HOUR, 2 * HOUR + 120, "LI")),
    ),
    Case(
        fact="two files in one second on one source: the later row stayed",
        logs=(played(0, 1), played(0, 2)),
        on_sounds=((2, 0, 120, "LI"),),
    ),
    Case(
        fact="a row without sound, track and file says nothing",
        logs=(played(0, None, item=""),),
    ),
    Case(
        fact="the sound on air ends when it should, and is running",
        logs=(played(0, 1),),
        now=100,
        on_sounds=((1, 0, 180, "LI"),),
    ),
    Case(
        fact="the sound on air of unknown length ends now",
        logs=(played(0, 3),),
        now=100,
        on_sounds=((3, 0, 100, "LI"),),
    ),
    Case(
        fact="a row from the future, shifted by the clock change, is not on air yet",
        logs=(played(0, 1), played(HOUR, 2)),
        now=100,
        on_sounds=((1, 0, 180, "LI"),),
    ),
]

SEEN = [
    Case(
        fact="what the hook saw has both ends",
        logs=(played(0, 1), played(150, 2)),
        spans=(seen(0, 150, 1), seen(150, 200, 2)),
        watches=(watch(-100, 300),),
        on_sounds=((1, 0, 150, "OO"), (2, 150, 200.4, "OO")),
    ),
    Case(
        fact="the same file twice in a row, which 1.0 does not log, is two airings",
        logs=(played(0, 4),),
        spans=(seen(0, 6, 4), seen(6, 12, 4)),
        watches=(watch(-100, 300),),
        on_sounds=((4, 0, 6, "OO"), (4, 6, 12.4, "OO")),
    ),
    Case(
        fact="after a restart 1.0 reuses an old row and logs nothing: the sighting tells of the new play",
        logs=(played(0, 1),),
        spans=(seen(5000, 5180, 1),),
        watches=(watch(4900, 6000),),
        on_sounds=((1, 0, 180, "LI"), (1, 5000, 5180.4, "OO")),
    ),
    Case(
        fact="a hook that came in the middle takes Liquidsoap's word for the start",
        logs=(played(0, 1),),
        spans=(seen(100, 170, 1, air=0),),
        watches=(watch(100.4, 300),),
        on_sounds=((1, 0, 170.4, "LO"),),
    ),
    Case(
        fact="an interrupted item that goes on with its old air time began again when it was seen",
        logs=(played(0, 1),),
        spans=(seen(0, 50, 1), seen(50, 56, 4), seen(56, 150, 1, air=0)),
        watches=(watch(-100, 300),),
        on_sounds=((1, 0, 50, "OO"), (4, 50, 56.4, "OO"), (1, 56.4, 150.4, "OO")),
    ),
    Case(
        fact="when the hook died, the item ends as it should, by the time that was left",
        spans=(seen(0, 60, 3, ended=False, remaining_ms=40_000),),
        watches=(watch(-100, 60),),
        on_sounds=((3, 0, 100.4, "OI"),),
    ),
    Case(
        fact="a restart of the hook cuts nothing in two",
        spans=(seen(0, 60, 3, ended=False), seen(80, 130, 3, air=0)),
        watches=(watch(-100, 60), watch(80.4, 300)),
        on_sounds=((3, 0, 130.4, "OO"),),
    ),
    Case(
        fact="while the hook watches, an item that runs out of time runs on",
        spans=(seen(0, 199, 1, ended=False),),
        watches=(watch(-100, 199),),
        now=200,
        on_sounds=((1, 0, 200, "OI"),),
    ),
    Case(
        fact="a row in the midst of what the hook saw is refuted",
        logs=(played(0, 1), played(100, 2)),
        spans=(seen(0, 180, 1),),
        watches=(watch(-100, 300),),
        on_sounds=((1, 0, 180.4, "OO"),),
    ),
]

AUTUMN = [
    Case(
        fact="of the repeated hour's first round, logged one hour late, the sightings know the truth",
        logs=(played(HOUR, 1), played(HOUR + 180, 2), played(HOUR, 3), played(HOUR + 180, 4)),
        spans=(
            seen(0, 180, 1, air=HOUR),
            seen(180, 300, 2, air=HOUR + 180),
            seen(HOUR, HOUR + 180, 3),
            seen(HOUR + 180, HOUR + 186, 4),
        ),
        watches=(watch(-100, 2 * HOUR),),
        on_sounds=(
            (1, 0, 180, "OO"),
            (2, 180, 300.4, "OO"),
            (3, HOUR, HOUR + 180, "OO"),
            (4, HOUR + 180, HOUR + 186.4, "OO"),
        ),
        on_tracks=((51, 0, 100, "II"), (52, 100, 180, "IO")),
    ),
    Case(
        fact="a clock that is an hour behind is set right, too",
        logs=(played(0, 1),),
        spans=(seen(HOUR, HOUR + 100, 1, air=0),),
        watches=(watch(-100, 2 * HOUR),),
        on_sounds=((1, HOUR, HOUR + 100.4, "OO"),),
    ),
    Case(
        fact="without the hook the hour cannot be told apart: the later row of a second stays",
        logs=(played(HOUR, 1), played(HOUR, 2)),
        on_sounds=((2, HOUR, HOUR + 120, "LI"),),
    ),
]

SHOWS = [
    Case(
        fact="a diffusion lasts from its START to the end of its last sound, however long it was planned",
        logs=(played(-100, 1), start(0.9, 5), played(0, 11, "dealer"), played(300, 12, "dealer", diffusion_id=5)),
        diffusions=(plan(5, 0, HOUR),),
        on_diffusions=((5, 0.9, 500, "LI"),),
        on_sounds=((1, -100, 0, "LI"), (11, 0, 300, "LI"), (12, 300, 500, "LI")),
    ),
    Case(
        fact="the stream goes on within the planned time of a show that is over",
        logs=(start(0, 5), played(0, 11, "dealer"), played(300, 12, "dealer"), played(510, 1)),
        diffusions=(plan(5, 0, HOUR),),
        on_diffusions=((5, 0, 500, "LI"),),
        on_sounds=((11, 0, 300, "LI"), (12, 300, 500, "LI"), (1, 510, 690, "LI")),
    ),
    Case(
        fact="a show whose first sound left no row begins with its START",
        logs=(played(-20, 4, "jingles"), start(0.5, 5), played(300, 12, "dealer")),
        diffusions=(plan(5, 0, HOUR),),
        on_diffusions=((5, 0.5, 500, "LI"),),
        on_sounds=((4, -20, -14, "LI"), (12, 300, 500, "LI")),
    ),
    Case(
        fact="a show without any sound's row lasts as long as its sounds",
        logs=(start(0, 5),),
        diffusions=(plan(5, 0, HOUR),),
        on_diffusions=((5, 0, 500, "LI"),),
    ),
    Case(
        fact="a show whose sounds have no length lasts as planned",
        logs=(start(0, 5),),
        diffusions=(plan(5, 0, HOUR, archive_ids=(3,)),),
        on_diffusions=((5, 0, HOUR, "LS"),),
    ),
    Case(
        fact="a show that starts late is on air late",
        logs=(start(120, 5), played(120, 11, "dealer"), played(420, 12, "dealer")),
        diffusions=(plan(5, 0, 400),),
        on_diffusions=((5, 120, 620, "LI"),),
        on_sounds=((11, 120, 420, "LI"), (12, 420, 620, "LI")),
    ),
    Case(
        fact="an overrun belongs to the show, though its rows name none",
        logs=(start(0, 5), played(0, 11, "dealer", diffusion_id=5), played(300, 12, "dealer")),
        diffusions=(plan(5, 0, 290),),
        on_diffusions=((5, 0, 500, "LI"),),
        on_sounds=((11, 0, 300, "LI"), (12, 300, 500, "LI")),
    ),
    Case(
        fact="the hook's sightings give a show both its bounds",
        logs=(start(0.6, 5), played(0, 11, "dealer")),
        diffusions=(plan(5, 0, HOUR),),
        spans=(seen(0, 300, 11, "dealer"), seen(300, 450, 12, "dealer")),
        watches=(watch(-100, HOUR),),
        on_diffusions=((5, 0.6, 450.4, "OO"),),
        on_sounds=((11, 0, 300, "OO"), (12, 300, 450.4, "OO")),
    ),
    Case(
        fact="a show on air ends when all its sounds are over",
        logs=(start(0, 5), played(0, 11, "dealer")),
        diffusions=(plan(5, 0, HOUR),),
        now=100,
        on_diffusions=((5, 0, 500, "LI"),),
        on_sounds=((11, 0, 300, "LI"),),
    ),
    Case(
        fact="a planned show that nobody logged is on air as planned",
        diffusions=(plan(5, 0, HOUR),),
        on_diffusions=((5, 0, HOUR, "SS"),),
    ),
    Case(
        fact="a planned show that the hook did not see was not on air, and the stream was",
        logs=(played(0, 1), played(180, 2)),
        diffusions=(plan(5, 0, 300),),
        spans=(seen(0, 180, 1), seen(180, 300, 2)),
        watches=(watch(-100, 400),),
        on_sounds=((1, 0, 180, "OO"), (2, 180, 300.4, "OO")),
    ),
    Case(
        fact="tracks inside a show are placed on their sound's own air time",
        logs=(start(0, 5), played(0, 11, "dealer"), played(310, 12, "dealer")),
        diffusions=(plan(5, 0, HOUR),),
        on_diffusions=((5, 0, 510, "LI"),),
        on_sounds=((11, 0, 300, "LI"), (12, 310, 510, "LI")),
        on_tracks=((61, 360, 510, "II"),),
    ),
]

LIVES = [
    Case(
        fact="a live show is on air as planned, and the filler that is logged meanwhile is not heard",
        logs=(played(-60, 1), played(120, 2), played(240, 1)),
        diffusions=(plan(6, 0, 300, episode=300),),
        on_diffusions=((6, 0, 300, "SS"),),
        on_sounds=((1, -60, 0, "LS"), (1, 300, 420, "SI")),
        on_tracks=((51, -60, 0, "IS"), (51, 300, 340, "SI"), (52, 340, 420, "II")),
    ),
    Case(
        fact="a live show on a live input begins and ends as it was seen",
        diffusions=(plan(6, 0, 300, episode=300),),
        spans=(seen(-60, 30, 1), seen(30, 350, None, "live", item="", is_live=True), seen(350, 400, 2)),
        watches=(watch(-100, 500),),
        on_diffusions=((6, 30, 350, "OO"),),
        on_sounds=((1, -60, 30, "OO"), (None, 30, 350, "OO"), (2, 350, 400.4, "OO")),
        on_tracks=((51, -60, 30, "IO"),),
    ),
    Case(
        fact="a live show that was called off is not on air",
        logs=(played(0, 1),),
        diffusions=(plan(6, 0, 300, episode=300, kind=DiffusionKind.CANCELLED),),
        on_sounds=((1, 0, 180, "LI"),),
    ),
    Case(
        fact="an unconfirmed show is not on air",
        diffusions=(plan(6, 0, 300, episode=300, kind=DiffusionKind.UNCONFIRMED),),
    ),
    Case(
        fact="a live show to come is there as planned",
        diffusions=(plan(6, HOUR, 2 * HOUR, episode=300),),
        now=0,
        on_diffusions=((6, HOUR, 2 * HOUR, "SS"),),
    ),
]

MANY = [
    Case(
        fact="of two live shows that overlap the later one cuts the other",
        diffusions=(plan(6, 0, 400, episode=300), plan(7, 300, 600, episode=400)),
        on_diffusions=((6, 0, 300, "SS"), (7, 300, 600, "SS")),
    ),
    Case(
        fact="a live show cuts the overrun of the show before it",
        logs=(start(0, 5), played(0, 11, "dealer"), played(300, 12, "dealer")),
        diffusions=(plan(5, 0, 400), plan(6, 400, 800, episode=300)),
        on_diffusions=((5, 0, 400, "LS"), (6, 400, 800, "SS")),
        on_sounds=((11, 0, 300, "LI"), (12, 300, 400, "LS")),
        on_tracks=((61, 350, 400, "IS"),),
    ),
    Case(
        fact="a show on air beats one that is only planned, which gets what is left",
        logs=(start(0, 5), played(0, 11, "dealer"), played(300, 12, "dealer")),
        diffusions=(plan(5, 0, 500), plan(8, 100, 700, episode=200)),
        on_diffusions=((5, 0, 500, "LI"), (8, 500, 700, "IS")),
        on_sounds=((11, 0, 300, "LI"), (12, 300, 500, "LI")),
    ),
    Case(
        fact="a rerun has its own sounds, and its first run the others",
        logs=(
            start(0, 5),
            played(0, 11, "dealer"),
            played(300, 12, "dealer"),
            start(HOUR, 9),
            played(HOUR, 11, "dealer"),
            played(HOUR + 300, 12, "dealer"),
        ),
        diffusions=(plan(5, 0, 500), plan(9, HOUR, HOUR + 500, initial_id=5)),
        on_diffusions=((5, 0, 500, "LI"), (9, HOUR, HOUR + 500, "LI")),
        on_sounds=(
            (11, 0, 300, "LI"),
            (12, 300, 500, "LI"),
            (11, HOUR, HOUR + 300, "LI"),
            (12, HOUR + 300, HOUR + 500, "LI"),
        ),
    ),
    Case(
        fact="START and CANCEL in one tick: the show is on air all the same",
        logs=(start(1300, 5), cancel(1300, 5), played(1300, 11, "dealer"), played(1600, 12, "dealer")),
        diffusions=(plan(5, 0, HOUR, kind=DiffusionKind.CANCELLED),),
        on_diffusions=((5, 1300, 1800, "LI"),),
        on_sounds=((11, 1300, 1600, "LI"), (12, 1600, 1800, "LI")),
    ),
    Case(
        fact="a show that was given up without a START was not on air",
        logs=(cancel(1300, 5), played(0, 1)),
        diffusions=(plan(5, 0, HOUR, kind=DiffusionKind.CANCELLED),),
        on_sounds=((1, 0, 180, "LI"),),
    ),
    Case(
        fact="an archive sound that a stream plays is no show's",
        logs=(played(0, 12, "night"),),
        diffusions=(plan(5, -HOUR, HOUR, kind=DiffusionKind.CANCELLED),),
        on_sounds=((12, 0, 200, "LI"),),
    ),
]

PIECES = [
    Case(
        fact="logged tracks stand in their sound, and end with the next one",
        logs=(played(0, 1), track(0, 51), track(100, 52)),
        on_sounds=((1, 0, 180, "LI"),),
        on_tracks=((51, 0, 100, "LI"), (52, 100, 180, "LI")),
    ),
    Case(
        fact="a track whose turn never came, because its sound was cut, was not on air",
        logs=(played(0, 1), track(0, 51), played(80, 2)),
        on_sounds=((1, 0, 80, "LI"), (2, 80, 200, "LI")),
        on_tracks=((51, 0, 80, "LI"),),
    ),
    Case(
        fact="a track is logged at every play, and repeated rows count once",
        logs=(played(0, 1), track(0, 51), track(0, 51), played(200, 1), track(200, 51)),
        on_sounds=((1, 0, 180, "LI"), (1, 200, 380, "LI")),
        on_tracks=((51, 0, 100, "LI"), (52, 100, 180, "II"), (51, 200, 300, "LI"), (52, 300, 380, "II")),
    ),
    Case(
        fact="a track whose sound's row is missing stands by its own row",
        logs=(track(0, 51), track(100, 52), played(150, 2)),
        on_sounds=((2, 150, 270, "LI"),),
        on_tracks=((51, 0, 100, "LI"), (52, 100, 150, "LI")),
    ),
    Case(
        fact="of the sound on air only the tracks that have begun are told",
        logs=(played(0, 1),),
        now=50,
        on_sounds=((1, 0, 180, "LI"),),
        on_tracks=((51, 0, 100, "II"),),
    ),
]

CASES = [*STREAMS, *SEEN, *AUTUMN, *SHOWS, *LIVES, *MANY, *PIECES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fact)
def test_rule(case: Case) -> None:
    timeline = built(case)
    assert rows(timeline, Layer.DIFFUSION) == case.on_diffusions
    assert rows(timeline, Layer.SOUND) == case.on_sounds
    if case.on_tracks is not None:
        assert rows(timeline, Layer.TRACK) == case.on_tracks


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fact)
def test_what_was_built_and_kept_is_built_again(case: Case) -> None:
    first = built(case)
    second = built(case, kept=first.airings)
    assert second.airings == first.airings
    assert not second.gone
    assert not second.dropped & {airing.key for airing in second.airings}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fact)
def test_no_layer_overlaps_itself_and_no_key_is_there_twice(case: Case) -> None:
    timeline = built(case)
    keys = [(airing.layer, airing.key) for airing in timeline.airings]
    assert len(keys) == len(set(keys))
    for layer in Layer:
        bounds = [(one.started_ms, one.ended_ms) for one in timeline.airings if one.layer is layer]
        assert bounds == sorted(bounds)
        assert all(start < end for start, end in bounds)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(bounds))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fact)
def test_the_order_in_which_the_books_are_read_changes_nothing(case: Case) -> None:
    turned = replace(
        case,
        logs=case.logs[::-1],
        diffusions=case.diffusions[::-1],
        spans=case.spans[::-1],
        watches=case.watches[::-1],
    )
    assert built(turned) == built(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.now == LATER], ids=lambda case: case.fact)
def test_when_every_row_is_gone_the_airings_stay_as_they_were(case: Case) -> None:
    first = built(case)
    empty = Case(fact="", now=case.now)
    records = Records(station_id=1)
    later = built(empty, kept=first.airings, records=records)
    assert sorted(later.airings, key=lambda one: one.key) == sorted(first.airings, key=lambda one: one.key)
    assert later.gone == {airing.key for airing in first.airings}
    assert built(empty, kept=later.airings, records=records) == later


@pytest.mark.parametrize("case", [case for case in CASES if case.now == LATER], ids=lambda case: case.fact)
def test_when_the_log_alone_is_archived_the_airings_stay_as_they_were(case: Case) -> None:
    first = built(case)
    archived = replace(case, logs=(), spans=(), watches=())
    later = built(archived, kept=first.airings)
    assert {_facts(one) for one in first.airings} <= {_facts(one) for one in later.airings}


def _facts(airing: Airing) -> tuple:
    return airing.layer, airing.key, airing.started_ms, airing.ended_ms


def test_a_sighting_that_comes_after_the_row_makes_no_second_airing() -> None:
    row = Case(fact="", logs=(played(0, 1), played(150, 2)))
    first = built(row)
    both = replace(row, spans=(seen(0, 140, 1), seen(150, 200, 2)), watches=(watch(-100, 300),))
    second = built(both, kept=first.airings)
    assert [one.key for one in second.airings] == [one.key for one in first.airings]
    assert rows(second, Layer.SOUND) == ((1, 0, 140.4, "OO"), (2, 150, 200.4, "OO"))


def test_a_key_under_a_date_that_proved_wrong_is_given_up() -> None:
    row = Case(fact="", logs=(played(HOUR, 1),))
    first = built(row)
    both = replace(row, spans=(seen(0, 150, 1, air=HOUR),), watches=(watch(-100, 300),))
    second = built(both, kept=first.airings)
    assert rows(second, Layer.SOUND) == ((1, 0, 150.4, "OO"),)
    assert {one.key for one in first.airings} <= second.dropped


def test_a_deleted_sound_leaves_its_title_its_length_and_its_tracks() -> None:
    """SET_NULL empties the row, CASCADE takes the tracks."""
    case = Case(fact="", logs=(played(0, 1), track(0, 51), played(HOUR, 2)))
    first = built(case)
    emptied = tuple(replace(row, sound_id=None) for row in case.logs if row.track_id is None and row.sound_id == 1)
    left = {id: sound for id, sound in SOUNDS.items() if id != 1}
    records = Records(station_id=1, logs=(*emptied, case.logs[2]), sounds=left)
    assert built(case, records=records, kept=first.airings).airings == first.airings


def test_a_deleted_diffusion_keeps_its_airing_and_its_sounds() -> None:
    case = Case(
        fact="",
        logs=(start(0, 5), played(0, 11, "dealer", diffusion_id=5), played(300, 12, "dealer", diffusion_id=5)),
        diffusions=(plan(5, 0, HOUR),),
    )
    first = built(case)
    emptied = tuple(replace(row, diffusion_id=None) for row in case.logs)
    sounds = {id: replace(sound, episode_ids=()) for id, sound in SOUNDS.items()}
    records = Records(station_id=1, logs=emptied, sounds=sounds, tracks=TRACKS)
    later = built(case, records=records, kept=first.airings)
    assert {_facts(one) for one in later.airings} == {_facts(one) for one in first.airings}
    assert {one.diffusion_id for one in later.airings} == {5}
    assert later.gone == {"diffusion:5"}


def test_a_deleted_diffusion_that_never_began_leaves_nothing() -> None:
    case = Case(fact="", diffusions=(plan(6, HOUR, 2 * HOUR, episode=300),), now=0)
    later = built(case, records=Records(station_id=1), kept=built(case).airings)
    assert later.airings == []


@pytest.mark.parametrize(
    ("logs", "note"),
    [
        ((cancel(1300, 5),), "cancelled by the monitor while on air"),
        ((), "cancelled while on air"),
    ],
)
def test_who_cancelled_a_show_on_air_is_noted(logs: tuple[LogRow, ...], note: str) -> None:
    case = Case(
        fact="",
        logs=(start(1300, 5), played(1300, 11, "dealer"), *logs),
        diffusions=(plan(5, 0, HOUR, kind=DiffusionKind.CANCELLED),),
    )
    assert built(case).airings[0].notes == (note,)


def test_planned_bounds_stay_beside_the_real_ones() -> None:
    case = Case(fact="", logs=(start(120, 5), played(120, 11, "dealer")), diffusions=(plan(5, 0, HOUR, initial_id=4),))
    airing = built(case).airings[0]
    assert (airing.scheduled_start_ms, airing.scheduled_end_ms) == (ms(0), ms(HOUR))
    assert airing.initial_id == 4


@pytest.mark.parametrize(
    ("now", "running"),
    [(100, {"diffusion:5", f"sound:dealer:{ms(0)}"}), (LATER, set())],
)
def test_what_is_on_air_now_is_marked(now: float, running: set[str]) -> None:
    case = Case(fact="", logs=(start(0, 5), played(0, 11, "dealer")), diffusions=(plan(5, 0, HOUR),), now=now)
    assert {one.key for one in built(case).airings if one.is_running} == running


def test_the_stream_on_air_keeps_running_up_to_a_show_that_is_near() -> None:
    case = Case(fact="", logs=(played(0, 1),), diffusions=(plan(6, 150, 300, episode=300),), now=100)
    sound = built(case).airings[1]
    assert (sound.is_running, sound.ended_ms, sound.end_basis) == (True, ms(150), "scheduled")
