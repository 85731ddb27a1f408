"""The sources of a station: its queue, its playlists, its live input."""

from __future__ import annotations

import os
from typing import Any

from example_project.standin.playout.metadata import BaseMetadata, Request

# A seek that lies before the start of any file.
TO_THE_START_SECONDS = -2_160_000


class Source(BaseMetadata):
    id: str | None = None
    remaining: float | None = 0.0
    status = "stopped"

    def __init__(self, controller: Any = None, id: str | None = None, **kwargs: Any) -> None:
        super().__init__(controller, **kwargs)
        self.id = id

    @property
    def station(self) -> Any:
        return self.controller.station

    def sync(self) -> None:
        """Nothing; a source that has files writes them."""

    def fetch(self) -> None:
        """Nothing; silence of Liquidsoap leaves the old values, an unreadable time gives None."""
        remaining = self.controller.send(self.id, ".remaining")
        if remaining:
            self.remaining = _seconds(remaining)
        metadata = self.controller.send(self.id, ".get", parse=True)
        if metadata:
            self.validate(metadata)

    def skip(self) -> None:
        self.controller.send(self.id, ".skip")

    def restart(self) -> None:
        self.seek(TO_THE_START_SECONDS)

    def seek(self, n: float) -> None:
        """Nothing; jumps by that many seconds."""
        self.controller.send(self.id, ".seek ", str(n))


class PlaylistSource(Source):
    """The sounds of a streamed program, kept in a playlist file."""

    program: Any = None
    path: str | None = None

    def __init__(self, controller: Any, id: str | None = None, program: Any = None, **kwargs: Any) -> None:
        super().__init__(controller, id=id or program.slug.replace("-", "_"), **kwargs)
        self.program = program
        self.path = os.path.join(self.station.path, f"{self.id}.m3u")

    def get_sound_queryset(self) -> Any:
        return self.program.sound_set.archive()

    def get_playlist(self) -> list[str]:
        sounds = self.get_sound_queryset()
        # 1.0 calls it playlist, 0.9 paths.
        return list(sounds.playlist() if hasattr(sounds, "playlist") else sounds.paths())

    def write_playlist(self, playlist: list[str]) -> None:
        os.makedirs(os.path.dirname(str(self.path)), exist_ok=True)
        with open(str(self.path), "w", encoding="utf-8") as file:
            file.write("\n".join(playlist))

    def sync(self) -> None:
        self.write_playlist(self.get_playlist())

    def stream(self) -> dict[str, Any] | None:
        """When the program may stream, for the script: `begin` and `end`, or `delay` in seconds."""
        stream = self.program.stream_set.first()
        if stream is None or not (stream.begin or stream.delay):
            return None
        delay = stream.delay
        return {
            "begin": f"{stream.begin:%Hh%M}" if stream.begin else None,
            "end": f"{stream.end:%Hh%M}" if stream.end else None,
            "delay": delay.hour * 3600 + delay.minute * 60 + delay.second if delay else 0,
        }


class QueueSource(Source):
    """A queue that plays what is pushed, once; `queue` holds the requests that wait."""

    queue: list[str] | None = None

    def push(self, *paths: str) -> None:
        for path in paths:
            self.controller.send(self.id, "_queue.push ", path)

    def fetch(self) -> None:
        super().fetch()
        self.queue = self.controller.send(self.id, "_queue.queue").split()

    @property
    def requests(self) -> list[Request]:
        requests = [Request(self.controller, rid) for rid in self.queue or []]
        for request in requests:
            request.fetch()
        return requests


class LiveSource(Source):
    """A live input: it has a title and an air time, but no file."""

    title: str | None = None


def _seconds(answer: str) -> float | None:
    try:
        return float(answer)
    except ValueError:
        return None
