"""A real nginx before a real Liquidsoap, and players against what they truly did.

Run with ``-s`` to read the table of errors.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db.models import Sum

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel.sessionize import TWIN_MS
from aircox_listen_stats.kernel.types import Observation
from aircox_listen_stats.models import Session, SourceState, Stream
from aircox_listen_stats.pipeline import ingest, recognise, secrets
from aircox_listen_stats.sources.hls import HlsSource
from tests.parts.child import ROOT
from tests.parts.liquidsoap import Liquidsoap
from tests.parts.nginx import Nginx
from tests.parts.stalls import LONG_SECONDS, Stalls
from tests.sources import hls_players, hls_run
from tests.sources.hls_run import MASTER, MS, Client
from tests.sources.test_liquidsoap import documented

RUN_SECONDS = 90.0
SEGMENT_SECONDS = 2.0
PLAYLIST_SEGMENTS = 5
LOOK_SECONDS = 0.5
WAIT_SECONDS = 60.0
MEAN_SECONDS = 2.0
"""What the mean error of listening time must stay under."""

SECOND_TWINS = ("twin-id-2", "twin-hi-2", "twin-lo")
"""Behind an address and agent where somebody plays already, a second one is plain within TWIN_MS."""


def documented_playout(folder: Path) -> str:
    """The HLS output of docs/sources/liquidsoap.md, with segments of two seconds, into ``folder``."""
    script = documented("output.file.hls(")
    for told, ours in (("segment_duration=4.0", f"segment_duration={SEGMENT_SECONDS}"), ("/var/www/hls", str(folder))):
        assert told in script
        script = script.replace(told, ours)
    return f"radio = mksafe(sine(440.0))\n{script}"


def documented_log_format() -> str:
    """The ``log_format`` of docs/sources/hls.md, to the letter."""
    found = re.search(r"^log_format hls .*?;$", (ROOT / "docs/sources/hls.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found, "docs/sources/hls.md has no log_format"
    return found[0]


def target_seconds(nginx: Nginx) -> int:
    """What the playlists promise."""
    found = re.search(r"#EXT-X-TARGETDURATION:(\d+)", httpx.get(f"{nginx.url}/hls/hi.m3u8", timeout=WAIT_SECONDS).text)
    assert found
    return int(found[1])


def segments_in(playlist: Path) -> int:
    """How many segments a playlist names; 0 where there is none yet."""
    return playlist.read_text().count("#EXTINF") if playlist.exists() else 0


@pytest.fixture
def nginx(liquidsoap_playout: Liquidsoap) -> Iterator[Nginx]:
    """An nginx that serves what a real Liquidsoap plays now, in two renditions."""
    folder = liquidsoap_playout.folder / "hls"
    folder.mkdir()
    status = liquidsoap_playout.folder.stat()
    os.chown(folder, status.st_uid, status.st_gid)
    liquidsoap_playout.start(documented_playout(folder))
    server = Nginx(liquidsoap_playout.folder, log_format=documented_log_format())
    server.start()
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while segments_in(folder / "hi.m3u8") < PLAYLIST_SEGMENTS:
            assert liquidsoap_playout.is_running, liquidsoap_playout.output()
            assert time.monotonic() < deadline, liquidsoap_playout.output()
            time.sleep(0.2)
        yield server
        assert liquidsoap_playout.is_running
        assert server.is_running, (server.folder / "error.log").read_text()
    finally:
        server.stop()


@dataclass(slots=True)
class Ear:
    """A source that is pulled and stored as the collector does it."""

    source: HlsSource
    cursor: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Observation] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def pull(self, *, stores: bool) -> None:
        for _ in range(100):
            now_ms = time.time_ns() // 1_000_000
            report = self.source.pull(self.cursor, now_ms=now_ms)
            self.cursor = json.loads(json.dumps(report.cursor))
            hls_run.merged(self.told, report.observations)
            for name, count in report.counts.items():
                self.counts[name] = self.counts.get(name, 0) + count
            if stores:
                ingest.store(report, now_ms=now_ms)
            if not report.more:
                return


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.django_db
def test_every_player_is_told_with_its_listening_time(nginx: Nginx, settings: Any) -> None:
    target = target_seconds(nginx)
    options = {"path": str(nginx.access_log), "target_seconds": target, "start_at": "beginning"}
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"hls": {"backend": "hls", **options}},
        "STREAMS": {"live": {"source": "hls", "station": 1, "mount": "/hls/live.m3u8"}},
        "RULE_SET": "all",
    }
    secrets.forget()
    recognise.forget()
    Stream.objects.create(slug="live", station_id=1, source="hls")
    planned = hls_players.plans(RUN_SECONDS)
    assert len(planned) >= 20
    began = time.time() + 1
    clients: list[Client] = []
    players = threading.Thread(
        target=lambda: clients.extend(asyncio.run(hls_players.play(nginx.port, planned, began, target)))
    )
    rich, plain = Ear(HlsSource("hls", MASTER, options)), Ear(combined(nginx, options))
    shown: list[tuple[float, int]] = []
    stalls = Stalls()
    stalls.start()
    players.start()
    until, turned = began + RUN_SECONDS + 3 * target + 2, False
    while time.time() < until:
        rich.pull(stores=True)
        plain.pull(stores=False)
        shown.append((time.time(), Session.objects.filter(is_open=True).count()))
        if not turned and time.time() > began + RUN_SECONDS / 2:
            nginx.rotate()
            turned = True
        time.sleep(LOOK_SECONDS)
    players.join(WAIT_SECONDS)
    stalls.stop()
    late = stalls.longest_seconds
    print(f"\nThe machine let us wait for up to {late:.2f} s.")
    assert len(clients) == len(planned), "a player failed; its traceback stands above"
    problems = [*check(rich, clients, target, stalls), *check_combined(plain, clients, late), *check_stored(rich)]
    problems += check_live(shown, clients, target, began + hls_players.LOOKS_AT_SECONDS, stalls)
    assert not problems, "\n".join(problems)


def combined(nginx: Nginx, options: dict[str, Any]) -> HlsSource:
    return HlsSource("hls", MASTER, {**options, "path": str(nginx.combined_log)})


def check(ear: Ear, clients: Sequence[Client], target: int, stalls: Stalls) -> list[str]:
    """Each player beside its truth; prints the table of errors."""
    late = stalls.longest_seconds
    matches, extra, missing = hls_run.match(hls_run.sessions(ear.told), clients)
    print("\n" + hls_run.table(f"Real nginx and Liquidsoap, target {target} s, JSON", matches, SEGMENT_SECONDS))
    print(f"  lines: {dict(sorted(ear.counts.items()))}")
    problems = [f"{one.label} was not told" for one in missing]
    problems += [f"told of {span.played_ms} ms that nobody played ({who[1]})" for who, span in extra if span.played_ms]
    if [who[1] for who, _ in extra] != ["looker3"]:
        problems.append(f"sessions of no duration: {[who[1] for who, _ in extra]}, expected the one of looker/3")
    for is_named in (True, False):
        mean = hls_run.mean_error([one for one in matches if one.client.is_named == is_named])
        if mean >= MEAN_SECONDS + late:
            problems.append(f"mean error {'with' if is_named else 'without'} ids is {mean:.2f} s")
    for one in matches:
        may = 0.5 + late
        if one.client.is_named and not (-may < one.start_error < may and -target - late < one.end_error < target + may):
            problems.append(f"{one.client.label}: bounds are off by {one.start_error:.2f} and {one.end_error:.2f} s")
        # A player that the machine let stand still has paused too.
        if one.client.label.startswith("pause") and not 2 <= len(one.told.parts) <= 2 + len(stalls.long_ended):
            problems.append(f"{one.client.label} has {len(one.told.parts)} parts, 2 true")
    for name in ("skipped_method", "skipped_status_404", "skipped_probe"):
        if ear.counts.get(name) != 1:
            problems.append(f"{name} is {ear.counts.get(name)}, 1 true")
    if any(name.startswith(("refused", "lost")) for name in ear.counts):
        problems.append(f"lines were refused: {ear.counts}")
    return problems


def check_combined(ear: Ear, clients: Sequence[Client], late: float) -> list[str]:
    """The same run by nginx's own format: no header, no milliseconds. Prints what is possible then."""
    matches, extra, missing = hls_run.match(hls_run.sessions(ear.told), clients)
    mean = hls_run.mean_error(matches)
    print(f"\nThe same by the combined format: {len(matches)} of {len(clients)} players, mean |e| {mean:.2f} s")
    print(f"  not told: {[one.label for one in missing]}; more told: {[(w[1], s.played_ms / MS) for w, s in extra]}")
    return [f"combined: mean error is {mean:.2f} s"] if mean >= MEAN_SECONDS + late else []


def check_stored(ear: Ear) -> list[str]:
    """The tables hold what the source told, closed, and nobody's address."""
    told = sorted(
        (span.started_ms, span.ended_ms, span.played_ms)
        for some in hls_run.sessions(ear.told).values()
        for span in some
    )
    stored = sorted((to_ms(one.started), to_ms(one.ended), one.played_ms) for one in Session.objects.all())
    problems = [] if told == stored else ["the stored sessions are not those that were told"]
    sums = Session.objects.aggregate(sent=Sum("bytes_sent"), delivered=Sum("delivered_ms"))
    heard = {
        "sent": sum(one.bytes_sent or 0 for one in ear.told.values()),
        "delivered": sum(one.delivered_ms or 0 for one in ear.told.values()),
    }
    if sums != heard or not heard["sent"]:
        problems.append(f"{sums} is stored as sent, {heard} was told")
    if set(Session.objects.filter(played_ms__gt=0).values_list("rendition", flat=True)) != {"hi", "lo"}:
        problems.append("the renditions are not those that were played")
    if Session.objects.filter(is_open=True).exists():
        problems.append("sessions are still open")
    if re.search(r"127\.\d+\.\d+\.\d+|7E57|twin", repr(list(SourceState.objects.values()))):
        problems.append("the cursor shows somebody")
    return problems


def check_live(
    shown: Sequence[tuple[float, int]], clients: Sequence[Client], target: int, looked: float, stalls: Stalls
) -> list[str]:
    """Each join and each leave is in the count within two targets and a look, which lasts long on a busy machine.

    Where the machine stood still so did the players, who asked for nothing.
    """
    look = max(at - before for (at, _), (before, _) in zip(shown[1:], shown, strict=False))
    patience = 2 * target + 2 * max(LOOK_SECONDS, look) + stalls.longest_seconds
    parts = [(part, TWIN_MS / MS if one.label in SECOND_TWINS else 0.0) for one in clients for part in one.parts]
    parts.append(((looked, looked), 0.0))  # who asked for the master alone is taken for a newcomer
    worst = behind = 0.0
    for (at, count), (before, _) in zip(shown[1:], shown, strict=False):
        least = sum(start + plain_s <= at - patience and at < stop for (start, stop), plain_s in parts)
        most = sum(start <= at and at - patience < stop for (start, stop), _ in parts)
        is_right = least <= count <= most or any(
            ended - LONG_SECONDS <= at < ended + patience for ended in stalls.long_ended
        )
        behind = 0.0 if is_right else behind + at - before
        worst = max(worst, behind)
        if behind:
            print(f"  {at - shown[0][0]:.1f} s: {count} shown, {least} to {most} true")
    peak = max(count for _, count in shown)
    print(f"\nlive count: 0 to {peak}, longest time beyond {patience:g} s: {worst:.1f} s")
    return [f"the live count was wrong for {worst:.1f} s"] if worst > 0 else []
