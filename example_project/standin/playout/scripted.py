"""A Liquidsoap that plays a script: what airs when is given, the clock too.

It answers the commands that a real one answers, in the same words, so that a day passes in a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from example_project.standin.playout.metadata import ON_AIR_FORMAT
from example_project.standin.playout.streamer import Streamer

# How long a pushed file plays when nobody said.
UNKNOWN_FILE_SECONDS = 180.0
UNKNOWN_COMMAND = 'ERROR: unknown command, type "help" to get a list of commands.'


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One thing on one source: a file, or a live stretch when it has a title and no uri."""

    source: str
    air_at: datetime
    seconds: float
    uri: str | None = None
    title: str = ""

    def __post_init__(self) -> None:
        if self.air_at.tzinfo is None:
            raise ValueError(f"air_at {self.air_at} is naive. Give it a time zone, for example UTC.")
        if self.seconds <= 0:
            raise ValueError(f"seconds is {self.seconds}; a cut lasts longer than 0.")

    @property
    def ends_at(self) -> datetime:
        return self.air_at + timedelta(seconds=self.seconds)


class ScriptedLiquidsoap:
    """Answers Liquidsoap's commands from a rundown of cuts and from what is pushed to the dealer.

    A pushed file airs at once when the dealer is idle, else after the one before it. A cut of a
    stream that would begin while the dealer or a live input plays never airs: it is covered.
    """

    address = "scripted"

    def __init__(
        self,
        rundown: Iterable[Cut],
        clock: Callable[[], datetime],
        *,
        seconds_of: Mapping[str, float] | None = None,
    ) -> None:
        self.clock = clock
        self.seconds_of = dict(seconds_of or {})
        # False is a Liquidsoap that is down: it answers nothing.
        self.answers = True
        self.rundown = sorted(rundown, key=lambda cut: cut.air_at)
        self.pushed: list[Cut] = []

    def ask(self, command: str) -> str | None:
        """The answer to a command; None while it is down."""
        if not self.answers:
            return None
        verb, _, argument = command.strip().partition(" ")
        if verb == "dealer_queue.push":
            return str(self._push(argument))
        if verb == "dealer_queue.queue":
            return " ".join(str(self._rid(cut)) for cut in self.pushed if cut.air_at > self.clock())
        if verb == "request.metadata":
            return self._request(argument)
        source, _, word = verb.rpartition(".")
        if source and word == "get":
            return self._get(source)
        if source and word == "remaining":
            return self._remaining(source)
        return UNKNOWN_COMMAND

    # -- the dealer's queue

    def _push(self, uri: str) -> int:
        now = self.clock()
        free_at = max((cut.ends_at for cut in self._cuts("dealer")), default=now)
        seconds = self.seconds_of.get(uri, UNKNOWN_FILE_SECONDS)
        self.pushed.append(Cut(source="dealer", air_at=max(now, free_at), seconds=seconds, uri=uri))
        return self._rid(self.pushed[-1])

    def _rid(self, cut: Cut) -> int:
        return [*self.rundown, *self.pushed].index(cut) + 1

    def _request(self, rid: str) -> str:
        cuts = [*self.rundown, *self.pushed]
        if not rid.isdecimal() or not 0 < int(rid) <= len(cuts):
            return "No such request."
        cut = cuts[int(rid) - 1]
        return self._describe(cut) if cut.air_at <= self.clock() else _lines({"rid": rid, "status": "ready"})

    # -- what each source says

    def _cuts(self, source: str) -> list[Cut]:
        pushed = self.pushed if source == "dealer" else []
        return [cut for cut in [*self.rundown, *pushed] if cut.source == source]

    def _current(self, source: str) -> Cut | None:
        """The cut that aired last on a source, which may have ended."""
        now = self.clock()
        aired = [cut for cut in self._cuts(source) if cut.air_at <= now and not self._is_covered(cut)]
        return max(aired, key=lambda cut: cut.air_at, default=None)

    def _is_covered(self, cut: Cut) -> bool:
        if cut.source == "dealer" or cut.uri is None:
            return False
        above = (other for other in [*self.rundown, *self.pushed] if other.source == "dealer" or other.uri is None)
        return any(other.air_at <= cut.air_at < other.ends_at for other in above)

    def _get(self, source: str) -> str:
        cut = self._current(source)
        if cut is None:
            return ""
        if cut.uri is None and cut.ends_at <= self.clock():
            # A live input says that it stopped; a file's source goes on saying `playing`.
            return _lines({"status": "stopped"})
        return self._describe(cut)

    def _describe(self, cut: Cut) -> str:
        wall_time = cut.air_at.astimezone().strftime(ON_AIR_FORMAT)
        pairs = {"status": "playing", "on_air": wall_time, "title": cut.title}
        if cut.uri is not None:
            pairs |= {
                "rid": str(self._rid(cut)),
                "initial_uri": cut.uri,
                "filename": cut.uri,
                "source": cut.source,
                "on_air_timestamp": f"{int(cut.air_at.timestamp())}.00",
            }
        return _lines(pairs)

    def _remaining(self, source: str) -> str:
        cut = self._current(source)
        # A harbor does not know when its guest will leave, and says 0.0 as well.
        if cut is None or cut.uri is None:
            return "0.0"
        return str(max(0.0, (cut.ends_at - self.clock()).total_seconds()))


class ScriptedStreamer(Streamer):
    """A station's streamer whose Liquidsoap plays a script.

    Give the Monitor the same clock: `Monitor(streamer, delay, clock=clock)`.
    """

    def __init__(
        self,
        station: Any,
        rundown: Iterable[Cut],
        clock: Callable[[], datetime],
        *,
        seconds_of: Mapping[str, float] | None = None,
    ) -> None:
        self.script = ScriptedLiquidsoap(rundown, clock, seconds_of=seconds_of)
        super().__init__(station, self.script)


def _lines(pairs: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{_escaped(value)}"' for key, value in pairs.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
