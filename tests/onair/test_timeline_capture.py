"""What a real aircox 0.9 logged in one run, against what was truly on air: the errors, item by item.

`logs_run1.json` are its rows, `onair_socket_run1.jsonl` is what Liquidsoap's
socket said at each change. The truth of an item is the air time of the
station's output; Liquidsoap cuts it to whole seconds.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aircox_listen_stats.fields import from_ms, to_ms
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
from aircox_listen_stats.models import MonitorWatch, OnAirChange
from aircox_listen_stats.onair import monitor as hook
from aircox_listen_stats.onair.base import item_of
from aircox_listen_stats.onair.recorder import Recorder
from tests.onair.studio import Deck

Capture = Callable[[str], Path]
SECOND_MS = 1000
ALLOWED_MS = 2_000
"""The second that Liquidsoap cuts off, and a tick."""
AFTERWARDS_MS = 3_600_000
DRAINED_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """An item on the output: `end_ms` is the next one's start."""

    file: str
    start_ms: int
    end_ms: int


def instant(text: str) -> int:
    return to_ms(dt.datetime.fromisoformat(text))


def air_time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, "%Y/%m/%d %H:%M:%S").replace(tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def looks(capture: Capture) -> list[dict[str, Any]]:
    """Each look at the socket; the last one found Liquidsoap gone."""
    lines = capture("aircox/onair_socket_run1.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def truth(looks: list[dict[str, Any]]) -> list[Truth]:
    """What the output played. It was a look behind when the show began, so the dealer's word is taken for that."""
    items: dict[int, str] = {}
    for look in looks[:-1]:
        for name in ("lab_radio", "dealer"):
            if "on_air" in look[name]:
                items[to_ms(air_time(look[name]["on_air"]))] = look[name]["initial_uri"].rpartition("/")[2]
    ends = [*sorted(items)[1:], round(looks[-1]["t"] * 1000)]
    return [
        Truth(file=items[start], start_ms=start, end_ms=end) for start, end in zip(sorted(items), ends, strict=True)
    ]


@pytest.fixture(scope="module")
def written(capture: Capture) -> dict[str, Any]:
    return json.loads(capture("aircox/logs_run1.json").read_text())


@pytest.fixture(scope="module")
def records(written: dict[str, Any]) -> Records:
    episodes = {row["id"]: row["episode_id"] for row in written["sounds"]}
    archive = tuple(row["id"] for row in written["sounds"] if row["episode_id"])
    kinds = {1: LogKind.START, 2: LogKind.CANCEL, 3: LogKind.ON_AIR}
    return Records(
        station_id=written["station"][0]["id"],
        logs=[
            LogRow(
                id=row["id"],
                kind=kinds[row["type"]],
                at_ms=instant(row["date"]),
                source=row["source"],
                item=row["comment"] if row["comment"].startswith("/") else "",
                sound_id=row["sound_id"],
                track_id=row["track_id"],
                diffusion_id=row["diffusion_id"],
            )
            for row in written["logs"]
        ],
        diffusions=[
            DiffusionRow(
                id=row["id"],
                kind=DiffusionKind.ON_AIR,
                start_ms=instant(row["start"]),
                end_ms=instant(row["end"]),
                episode_id=episodes[archive[0]] if "live" not in row["episode__title"] else -1,
                title=row["episode__title"],
                archive_ids=archive if "live" not in row["episode__title"] else (),
            )
            for row in written["diffusions"]
        ],
        sounds={
            row["id"]: SoundRow(
                id=row["id"],
                title=row["path"].rpartition("/")[2],
                duration_ms=_length_ms(row["duration"]),
                episode_ids=(row["episode_id"],) if row["episode_id"] else (),
            )
            for row in written["sounds"]
        },
        tracks=[
            TrackRow(
                id=row["id"],
                sound_id=row["sound_id"],
                offset_ms=None if row["timestamp"] is None else row["timestamp"] * SECOND_MS,
                title=row["title"],
            )
            for row in written["tracks"]
        ],
    )


def _length_ms(text: str) -> int:
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    return (hours * 3600 + minutes * 60 + seconds) * SECOND_MS


def sounds(timeline: Timeline) -> list[Airing]:
    return [one for one in timeline.airings if one.layer is Layer.SOUND]


def compare(name: str, timeline: Timeline, truth: list[Truth], capsys: pytest.CaptureFixture[str]) -> dict[int, tuple]:
    """Errors of start and end by the true start, None for what is missing. Prints the table."""
    told = {(one.title, round(one.started_ms / SECOND_MS)): one for one in sounds(timeline)}
    errors: dict[int, tuple] = {}
    lines = [f"\n{name}: seconds after the truth (start, end), and their bases"]
    for item in truth:
        one = told.get((item.file, item.start_ms // SECOND_MS))
        clock = f"{from_ms(item.start_ms):%H:%M:%S}"
        if one is None:
            errors[item.start_ms] = (None, None)
            lines.append(f"  {clock} {item.file:<12} missing")
            continue
        start, end = one.started_ms - item.start_ms, one.ended_ms - item.end_ms
        errors[item.start_ms] = (start, end)
        lines.append(
            f"  {clock} {item.file:<12} {start / 1000:+7.2f} {end / 1000:+7.2f}  {one.start_basis} {one.end_basis}"
        )
    with capsys.disabled():
        print("\n".join(lines))
    return errors


def clock_of(errors: dict[int, tuple], wrong: Callable[[tuple], bool]) -> list[str]:
    return [f"{from_ms(start):%H:%M:%S}" for start, pair in errors.items() if wrong(pair)]


LIVE = ("2026-11-22T02:02:47.228510+00:00", "2026-11-22T02:04:47.228510+00:00")
UNDER_LIVE = ["02:02:59", "02:03:05", "02:03:30", "02:04:05"]
"""Filler that Liquidsoap played, and a row tells of, while the live show was on air by the plan."""


def test_from_the_rows_alone(records: Records, truth: list[Truth], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that left a row is missing, and every bound is right to the second, where the plan does not rule."""
    timeline = build(records, now_ms=truth[-1].end_ms + AFTERWARDS_MS)
    errors = compare("rows of aircox 0.9", timeline, truth, capsys)
    unlogged = ["02:00:32", "02:05:37", "02:06:12"]  # no row: after a show, and after the Monitor had ended
    assert clock_of(errors, lambda pair: pair[0] is None) == sorted([*unlogged, *UNDER_LIVE, "02:04:11"])
    known = {start: pair for start, pair in errors.items() if pair[0] is not None}
    assert max(abs(start) for start, _ in known.values()) == 0
    assert clock_of(known, lambda pair: abs(pair[1]) > ALLOWED_MS) == ["02:02:19"]
    shows = [one for one in timeline.airings if one.layer is Layer.DIFFUSION]
    bounds = [(one.started_ms, one.ended_ms) for one in shows]
    first = next(item for item in truth if item.file == "ep1_1.mp3")
    last = next(item for item in truth if item.file == "ep1_2.mp3")
    assert abs(bounds[0][0] - first.start_ms) <= ALLOWED_MS
    assert abs(bounds[0][1] - last.end_ms) <= ALLOWED_MS
    assert bounds[1] == tuple(map(instant, LIVE))
    tracks = [one for one in timeline.airings if one.layer is Layer.TRACK]
    rows = {(row.track_id, row.at_ms) for row in records.logs if row.track_id}
    live = tuple(map(instant, LIVE))
    heard = {(id, at) for id, at in rows if not live[0] <= at < live[1]}
    assert heard <= {(one.track_id, one.started_ms) for one in tracks}


class Desk:
    """The streamer of that run as aircox saw it: the source whose air time is the latest is on air."""

    def __init__(self, station_id: int) -> None:
        self.station = type("Station", (), {"pk": station_id})()
        self.decks = {name: Deck(name) for name in ("dealer", "night_tones", "jingles")}
        self.source: Deck | None = None

    def fetch(self) -> None:
        playing = [deck for deck in self.decks.values() if deck.request_status == "playing" and deck.air_time]
        self.source = max(playing, key=lambda deck: deck.air_time, default=None)

    def look(self, look: dict[str, Any]) -> None:
        for name, deck in self.decks.items():
            if "on_air" in look[name]:
                remaining = float(look["dealer_remaining"]) if name == "dealer" else 30.0
                deck.play(look[name]["initial_uri"], air_time(look[name]["on_air"]), remaining)
        self.fetch()


@pytest.fixture
def recorder(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    fresh = Recorder()
    monkeypatch.setattr(hook, "recorder", fresh)
    yield fresh
    fresh.stop(DRAINED_SECONDS)


def test_with_the_hook(
    records: Records,
    truth: list[Truth],
    looks: list[dict[str, Any]],
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The hook ticks once a second through that run: the ends are seen, and so is what has no row."""
    desk = Desk(records.station_id)
    pending = iter([*looks[:-1], None])
    following = next(pending)
    now = {"ms": round(looks[0]["t"] * 1000)}
    monkeypatch.setattr(hook.time, "time_ns", lambda: now["ms"] * 1_000_000)
    watcher = type("Monitor", (), {"streamer": desk})()
    while now["ms"] < round(looks[-1]["t"] * 1000):
        while following is not None and round(following["t"] * 1000) <= now["ms"]:
            desk.look(following)
            following = next(pending)
        desk.fetch()
        hook.observe(watcher)
        now["ms"] += SECOND_MS
    hook.observe(watcher)  # not fetched: Liquidsoap is gone
    assert recorder.drain(DRAINED_SECONDS)
    spans, watches = _seen(records)
    timeline = build(records, spans, watches, now_ms=truth[-1].end_ms + AFTERWARDS_MS)
    errors = compare("with the Monitor hook", timeline, truth, capsys)
    # The jingle at 02:00:32 was on no source that aircox reads. The live show rules by its plan.
    assert clock_of(errors, lambda pair: pair[0] is None) == sorted(["02:00:32", *UNDER_LIVE, "02:04:11"])
    known = {start: pair for start, pair in errors.items() if pair[0] is not None}
    assert max(abs(start) for start, _ in known.values()) == 0
    assert clock_of(known, lambda pair: abs(pair[1]) > ALLOWED_MS) == ["02:02:19"]
    observed = [one for one in sounds(timeline) if one.end_basis == "observed"]
    assert len(observed) >= len(known) - 3


def _seen(records: Records) -> tuple[list[OnAirSpan], list[WatchSpan]]:
    by_uri = {row.item: row.sound_id for row in records.logs if row.sound_id}
    known = {item_of(uri): (uri, sound_id) for uri, sound_id in by_uri.items()}
    spans = []
    for row in OnAirChange.objects.order_by("started"):
        uri, sound_id = known[row.item]
        spans.append(
            OnAirSpan(
                source=row.source,
                item=uri,
                started_ms=to_ms(row.started),
                seen_ms=to_ms(row.seen),
                ended=row.ended,
                air_time_ms=to_ms(row.air_time),
                remaining_ms=row.remaining_ms,
                sound_id=sound_id,
            )
        )
    watches = [WatchSpan(started_ms=to_ms(one.started), seen_ms=to_ms(one.seen)) for one in MonitorWatch.objects.all()]
    return spans, watches


def test_the_truth_is_complete(truth: list[Truth]) -> None:
    """Eighteen items without a gap: the table above compares with all that was on air."""
    assert all(before.end_ms == after.start_ms for before, after in itertools.pairwise(truth))
    assert len(truth) == 18
