"""1.0's Monitor: it remembers each source's last sound instead of asking the database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aircox.models import Diffusion, Log, Sound

from example_project.standin.playout.sources import Source
from example_project.standin.playout.watch import Watch


class Monitor(Watch):
    cancel_timeout = timedelta(minutes=20)
    sync_timeout = timedelta(minutes=5)
    last_sound_logs: dict[str, Log]

    def __init__(self, streamer: Any, delay: timedelta, **kwargs: Any) -> None:
        self.settle(streamer, delay, kwargs)
        self.init_last_sound_logs()

    def init_last_sound_logs(self) -> None:
        """Nothing; each source's last sound is taken from the rows, however old it is."""
        sounds = self.logs.on_air().with_sound()
        rows = {source.id: sounds.filter(source=source.id).first() for source in self.streamer.sources}
        self.last_sound_logs = {id: row for id, row in rows.items() if row is not None}

    def log(self, source: str, **kwargs: Any) -> Log:
        """The new row; only one with a sound is remembered, so an unknown file is written each time."""
        kwargs.setdefault("station", self.station)
        kwargs.setdefault("date", self.clock())
        row = Log(source=source, **kwargs)
        row.save()
        row.print()
        if row.sound is not None:
            self.last_sound_logs[source] = row
        return row

    def trace_sound(self, source: Source) -> Log:
        """The source's last row if it is of the same file, whenever that was; else a new one."""
        last = self.last_sound_logs.get(str(source.id))
        if last is not None and last.sound is not None and last.sound.file.path == source.uri:
            return last
        return self.log_sound(source, Sound.objects.path(source.uri).first())

    def patience(self) -> timedelta:
        return self.cancel_timeout

    def pause_between_syncs(self) -> timedelta:
        return self.sync_timeout

    def archive_paths(self, diffusion: Diffusion) -> list[str]:
        return list(Sound.objects.episode(id=diffusion.episode_id).playlist())
