"""What watching costs: the time of a Monitor's tick with our hook and without, in turn.

The stand-in's Monitor over a scripted Liquidsoap, with the hook's own thread
at work beside it. Ours is the tick with the hook, the peer the same tick
without; the difference of their medians is what a station pays each second.

    python -m benchmarks.monitor_tick [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import time
from typing import Any

from benchmarks._own_database import KINDS, on_each_database, own_database
from benchmarks._ratios import line

BLOCKS, BLOCK_TICKS = 12, 40
QUICK_BLOCKS = 4
MUST_ADDED_US, GOAL_ADDED_US = 1000.0, 20.0
"""The budget of docs/onair.md: a thousandth of a tick of one second."""
SONG_SECONDS = 20
PAUSE_SECONDS = 0.1
"""Between two ticks: a tenth of a station's second, long enough for the hook's thread to have done its work."""


def main() -> int:
    """The number of databases on which a must was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the ticks")
    parser.add_argument("--on", choices=KINDS, help="this database alone")
    given = parser.parse_args()
    if given.on:
        with own_database(given.on):
            return measure(given.on, QUICK_BLOCKS if given.quick else BLOCKS)
    return on_each_database("monitor_tick", quick=given.quick)


def measure(kind: str, blocks: int) -> int:
    """0 when the must holds on this kind of database."""
    from aircox_listen_stats.onair import monitor as hook

    clock, monitor = _station(blocks * 2 * BLOCK_TICKS)
    with_hook: list[float] = []
    without: list[float] = []
    for _block in range(blocks):
        hook.install()
        with_hook += _ticks(monitor, clock)
        hook.uninstall()
        without += _ticks(monitor, clock)
    added_us = (statistics.median(with_hook) - statistics.median(without)) * 1e6
    for name, took in (("with the hook", with_hook), ("without", without)):
        took.sort()
        print(
            f"{kind}, {name}: median {statistics.median(took) * 1e6:.1f} µs,"
            f" p99 {took[int(len(took) * 0.99)] * 1e6:.1f} µs, worst {took[-1] * 1e6:.0f} µs of {len(took)} ticks"
        )
    print(f"looks {hook.counts().taken}, lost {hook.counts().lost}, failed {hook.counts().failed}")
    return line(f"tick_added_us_{kind}", added_us, must=MUST_ADDED_US, goal=GOAL_ADDED_US, less_is_better=True)


class _Clock:
    def __init__(self) -> None:
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self) -> None:
        self.now += dt.timedelta(seconds=1)


def _station(seconds: int) -> tuple[_Clock, Any]:
    """A clock, and a Monitor whose station plays a song every SONG_SECONDS by that clock."""
    from aircox.models import Program, Sound, Station, Stream
    from aircox_streamer.controllers.monitor import Monitor

    from example_project.standin.playout.scripted import Cut, ScriptedStreamer

    station = Station.objects.create(name="Benchmark", slug="benchmark")
    program = Program.objects.create(title="Songs", slug="songs", station=station)
    Stream.objects.create(program=program)
    sounds = []
    for number in range(3):
        sound = Sound(name=f"song {number}", program=program, type=Sound.TYPE_ARCHIVE, file=f"songs/{number}.mp3")
        sound.save(check=False)
        sounds.append(sound)
    clock = _Clock()
    rundown = [
        Cut(
            source="songs",
            air_at=clock.now + dt.timedelta(seconds=at),
            seconds=SONG_SECONDS,
            uri=sounds[at // SONG_SECONDS % len(sounds)].file.path,
        )
        for at in range(0, min(seconds, 50 * SONG_SECONDS), SONG_SECONDS)
    ]
    streamer = ScriptedStreamer(station, rundown, clock)
    return clock, Monitor(streamer, dt.timedelta(seconds=1), clock=clock)


def _ticks(monitor: Any, clock: _Clock) -> list[float]:
    """Seconds that each tick of a block took."""
    took = []
    for _tick in range(BLOCK_TICKS):
        clock.forward()
        began = time.perf_counter()
        monitor.monitor()
        took.append(time.perf_counter() - began)
        time.sleep(PAUSE_SECONDS)
    return took


if __name__ == "__main__":
    sys.exit(main())
