"""Writes the stations' scripts, runs Liquidsoap, and watches what it plays."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from aircox_streamer.controllers import Streamer
from aircox_streamer.controllers.monitor import Monitor
from example_project.standin.playout.loop import add_options, stream


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_options(parser, Monitor.cancel_timeout / timedelta(minutes=1))

    def handle(self, *args: Any, **options: Any) -> None:
        # Names of this module, looked up now, so that another Monitor can be put in their place.
        stream(
            Streamer,
            lambda streamer, delay, timeout: Monitor(streamer, delay, cancel_timeout=timeout),
            options,
        )
