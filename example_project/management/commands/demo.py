"""`python -m example_project demo`: a station with a past, a present and listeners."""

from __future__ import annotations

import contextlib
import os
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from example_project.demo import environment, past, stage
from example_project.demo.listeners import write_country_database


class Command(BaseCommand):
    help = "Opens a pretend station with a year behind it and listeners who come and go. Ctrl-C ends it."
    requires_system_checks: list[str] = []  # the database does not exist yet

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--icecast", action="store_true", help="on a real Icecast and a real Liquidsoap, with real listeners"
        )
        parser.add_argument("--seconds", type=float, default=0, help="close by itself after so many seconds")

    def handle(self, *, icecast: bool, seconds: float, **options: Any) -> None:
        began = time.monotonic()
        port = int(os.environ["EXAMPLE_STATION_PORT"])
        address = f"http://127.0.0.1:{port}"
        self._begin_anew()
        station = past.build(environment.folder(), timezone.now(), timezone.get_default_timezone(), self._tell)
        self._tell(f"Ready after {time.monotonic() - began:.0f} s.")
        with contextlib.ExitStack() as open_parts:
            if icecast:
                from example_project.demo import real

                real.open_stage(station, address, open_parts, self._tell)
            else:
                self._pretend(station, address, open_parts)
            stage.site(port, seconds, self._greeting(address), self._tell)
        self._tell("Closed.")

    def _pretend(self, station: Any, address: str, open_parts: contextlib.ExitStack) -> None:
        open_parts.enter_context(stage.playout(station))
        icecast = open_parts.enter_context(stage.pretend_icecast(address))
        since = past.open_studio_start(timezone.now()).timestamp()
        open_parts.enter_context(stage.town(icecast, since))
        open_parts.enter_context(stage.collector())

    def _greeting(self, address: str) -> list[str]:
        stream = f"http://127.0.0.1:{os.environ['EXAMPLE_STATION_ICECAST_PORT']}{environment.MOUNTS['radio-mp3']}"
        return [
            "",
            f"The station's site, with the live count:   {address}/",
            f"The audience of its programs:              {address}{reverse('listen_stats:programs')}",
            f"   the producer of two programs:           {past.PRODUCER} / {past.PASSWORD}",
            f"   the technician, who sees everything:    {past.TECHNICIAN} / {past.PASSWORD}",
            f"Become a listener yourself:                {stream}",
            "",
            "Ctrl-C closes everything.",
        ]

    def _tell(self, line: str) -> None:
        self.stdout.write(f"  {line}")
        self.stdout.flush()

    def _begin_anew(self) -> None:
        """Empties the demo's database: the past ends now, so yesterday's will not do."""
        connection.close()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{connection.settings_dict['NAME']}{suffix}")
        write_country_database(environment.folder() / environment.COUNTRIES)
        self._tell("A new SQLite database.")
        call_command("migrate", verbosity=0)
