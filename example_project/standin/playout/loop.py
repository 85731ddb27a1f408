"""The loop behind the command `streamer`, for both shapes."""

from __future__ import annotations

import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from aircox.models import Station

# Milliseconds between two looks; aircox's own default.
DELAY_MILLISECONDS = 1000


def add_options(parser: ArgumentParser, cancel_minutes: float) -> None:
    """Nothing; the parser knows aircox's options."""
    actions = parser.add_argument_group("actions")
    actions.add_argument("-c", "--config", action="store_true", help="write the stations' scripts")
    actions.add_argument("-m", "--monitor", action="store_true", help="watch the stations")
    actions.add_argument("-r", "--run", action="store_true", help="run Liquidsoap")
    options = parser.add_argument_group("options")
    options.add_argument(
        "-d",
        "--delay",
        type=int,
        default=DELAY_MILLISECONDS,
        help="milliseconds between two looks at a station",
    )
    options.add_argument("-s", "--station", action="append", help="name of a station, repeatable")
    options.add_argument(
        "-t",
        "--timeout",
        type=float,
        default=cancel_minutes,
        help="minutes after which a diffusion that did not start is cancelled",
    )


def stream(
    make_streamer: Callable[[Any], Any],
    make_monitor: Callable[[Any, timedelta, timedelta], Any],
    options: dict[str, Any],
) -> None:
    """Nothing, or never: runs until Liquidsoap ends. Whatever goes wrong ends it, as in aircox."""
    stations = Station.objects.all()
    if threading.current_thread() is threading.main_thread():
        # A supervisor's SIGTERM leaves by the exit handlers, which end Liquidsoap.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if options["station"]:
        stations = stations.filter(name__in=options["station"])
    streamers = [make_streamer(station) for station in stations]
    for streamer in streamers:
        _prepare(streamer, options)
    if options["monitor"]:
        delay = timedelta(milliseconds=options["delay"])
        timeout = timedelta(minutes=options["timeout"])
        monitors = [make_monitor(streamer, delay, timeout) for streamer in streamers]
        # Only the last Liquidsoap decides whether the loop goes on: as in aircox.
        while not options["run"] or streamers[-1].is_running:
            for monitor in monitors:
                monitor.monitor()
            time.sleep(delay.total_seconds())
    if options["run"]:
        for streamer in streamers:
            streamer.wait_process()


def _prepare(streamer: Any, options: dict[str, Any]) -> None:
    if not streamer.outputs:
        raise RuntimeError(
            f"Station {streamer.id!r} has no active output port. Add one in the admin, for example of type icecast."
        )
    if options["config"]:
        streamer.make_config()
    if options["run"]:
        streamer.run_process()
