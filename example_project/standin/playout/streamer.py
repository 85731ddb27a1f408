"""A station's Liquidsoap: its script, its sources, which of them is on air."""

from __future__ import annotations

import atexit
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, Protocol

from django.template.loader import render_to_string

from example_project.standin.playout.connector import LiquidsoapSocket, pairs
from example_project.standin.playout.sources import LiveSource, PlaylistSource, QueueSource, Source

# Liquidsoap refuses to run as root: Debian's package makes this user for it.
LIQUIDSOAP_USER = "liquidsoap"


class Connector(Protocol):
    """Whatever answers Liquidsoap's commands."""

    address: str

    def ask(self, command: str) -> str | None: ...


class Streamer:
    """One station's Liquidsoap, reached over its socket, or over the connector given."""

    template_name = "aircox_streamer/scripts/station.liq"
    # Order in which a playlist plays: Liquidsoap's `random`, `randomize` or `normal`.
    playlist_mode = "random"
    # Seconds of cross-fade between the dealer and the streams. aircox fades for 2; 0 cuts, so that
    # what the socket tells is what is heard (docs/example-project.md).
    fade_seconds = 0.0
    # Seconds that Liquidsoap has to end by itself, fewer than a supervisor waits for the command.
    stop_seconds = 4.0

    def __init__(self, station: Any, connector: Connector | None = None) -> None:
        self.station = station
        self.id = station.slug.replace("-", "_")
        self.path = os.path.join(station.path, "station.liq")
        self.connector = connector or LiquidsoapSocket(os.path.join(station.path, "station.sock"))
        self.inputs = station.port_set.active().input()
        self.outputs = station.port_set.active().output()
        self.process: subprocess.Popen[bytes] | None = None
        self.source: Source | None = None
        self.sources: list[Source] = []
        self.init_sources()

    # -- sources

    def init_sources(self) -> None:
        """Nothing; the dealer, a playlist per streamed program, a live input if a port leads in."""
        streamed = self.station.program_set.filter(stream__isnull=False).distinct()
        self.dealer = QueueSource(self, "dealer")
        self.sources = [
            self.dealer,
            *(PlaylistSource(self, program=program) for program in streamed),
        ]
        if self.inputs.exists():
            self.sources.append(LiveSource(self, "live"))

    @property
    def playlists(self) -> Iterator[PlaylistSource]:
        return (source for source in self.sources if isinstance(source, PlaylistSource))

    @property
    def queues(self) -> Iterator[QueueSource]:
        return (source for source in self.sources if isinstance(source, QueueSource))

    def sync(self) -> None:
        for source in self.sources:
            source.sync()

    def fetch(self) -> None:
        """Nothing; every source is read, then the one that went on air last is the one on air.

        Liquidsoap goes on saying `playing` of a source that has ended.
        """
        for source in self.sources:
            source.fetch()
        playing = [
            source for source in self.sources if source.request_status == "playing" and source.air_time is not None
        ]
        self.source = max(playing, key=lambda source: source.air_time, default=None)  # type: ignore[arg-type, return-value]

    # -- socket

    @property
    def socket_path(self) -> str:
        return self.connector.address

    @property
    def is_ready(self) -> bool:
        # The command is unknown to Liquidsoap 2, which says so: any answer is a sign of life.
        return self.send("list") != ""

    def send(self, *words: Any, parse: bool = False) -> Any:
        """The answer to a command: text, or its pairs with `parse`; empty when nobody answers."""
        answer = self.connector.ask("".join(str(word) for word in words)) or ""
        return pairs(answer) if parse else answer

    # -- script

    def make_config(self) -> None:
        """Nothing; the script and the playlists are written into the station's folder."""
        script = render_to_string(self.template_name, {"station": self.station, "streamer": self})
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(re.sub(r"\n{3,}", "\n\n", re.sub(r"[\t ]+\n", "\n", script)))
        self.sync()

    # -- Liquidsoap itself

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def get_process_args(self) -> list[str]:
        command = ["liquidsoap", "-v", self.path]
        if os.geteuid() != 0:
            return command
        account = f"--reuid={LIQUIDSOAP_USER}"
        return ["setpriv", account, f"--regid={LIQUIDSOAP_USER}", "--init-groups", *command]

    def run_process(self) -> None:
        if self.process is not None:
            return
        if os.geteuid() == 0:
            self._hand_over_folder()
        self.process = subprocess.Popen(self.get_process_args(), stderr=subprocess.STDOUT)
        atexit.register(self.kill_process)

    def kill_process(self) -> None:
        """Nothing; Liquidsoap is asked to stop, then killed."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def wait_process(self) -> None:
        if self.process is not None:
            self.process.wait()
            self.process = None

    def _hand_over_folder(self) -> None:
        """Nothing; Liquidsoap's user may write its socket and log beside the script."""
        pwd.getpwnam(LIQUIDSOAP_USER)
        shutil.chown(self.station.path, user=LIQUIDSOAP_USER)
