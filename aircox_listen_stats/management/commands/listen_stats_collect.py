"""Runs the collector until it is told to stop."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import conf
from ...errors import ListenStatsError
from ...onair import aircox
from ...pipeline.collect import Collector
from ...sources import registry

LOGGER = "aircox_listen_stats"
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class Command(BaseCommand):
    help = (
        "Hears every configured source, keeps the timeline and the figures, and tells the live count. "
        "Any number may run: one is active, the others stand by. Ends cleanly on SIGTERM and SIGINT."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--holder", help="the name under which it takes the lease (default: host, pid)")

    def handle(self, *args: Any, **options: Any) -> None:
        _log_to_stderr(options["verbosity"])
        try:
            sources = registry.build(conf.get())
            collector = Collector(sources=sources, onair=aircox.log(), holder=options["holder"])
        except ListenStatsError as error:
            raise CommandError(str(error)) from error
        if not sources:
            raise CommandError(
                "AIRCOX_LISTEN_STATS['SOURCES'] is empty: there is nothing to hear. See docs/settings.md."
            )
        stop = threading.Event()

        def end(number: int, frame: FrameType | None) -> None:
            stop.set()

        before = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            collector.run(stop)
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _log_to_stderr(verbosity: int) -> None:
    """Lets the log be seen where the project has not said where it goes. systemd keeps stderr."""
    logger = logging.getLogger(LOGGER)
    if not logger.hasHandlers():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
