"""What every source is: an ear that turns what a server says into observations.

Parsing is a pure function in each source's module. A source neither stores
nor forgets: it hands a :class:`Report` to ``pipeline.ingest``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import ConfigurationError, MalformedRecord, SourceUnavailable
from ..kernel.types import Observation

__all__ = ["Census", "ConfigurationError", "MalformedRecord", "PullSource", "PushSource", "Report", "SourceUnavailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The source knows of *all* sockets of these streams at one instant.

    An open connection of one of ``streams`` that was last sighted before
    ``at_ms`` has ended at that sighting. ``server`` names the server's run (its
    start time): where it differs from the one before, every older connection
    has ended at its last sighting, since client numbers begin again.
    ``by_silence``: nobody was listed; who has told nothing since ``at_ms`` has
    left, and is back when there is more of them (HLS has no connections).
    """

    streams: frozenset[str]
    at_ms: int
    server: str = ""
    by_silence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The source observed ``stream`` throughout ``[started_ms, ended_ms]``."""

    stream: str
    started_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one pull or one push brought.

    ``cursor`` is stored with the observations in one transaction and handed
    to the next pull. ``counts`` are by reason: lines read, kept, skipped, refused.
    """

    source: str
    observations: Sequence[Observation] = ()
    census: Census | None = None
    heard: Sequence[Heard] = ()
    cursor: Mapping[str, Any] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    more: bool = False  # there is more to pull at once (catching up)
    inbox_ids: Sequence[int] = ()  # callbacks that this report answers; deleted in the same transaction
    totals: Mapping[str, int] | None = None
    """Listeners by stream, of a source that knows nobody apart (``tells_only_totals``). A stream that
    is left out is unknown. They are shown as the live count until ``heard`` is too old, and nowhere else."""


class Source:  # its two kinds below are the abstract ones
    """A configured source.

    ``name`` is its key in the settings, ``streams`` maps what the server calls
    a stream (a mount, a group) to the stream's slug, ``fallbacks`` a stream's
    slug to the mounts that the server moves its listeners to.
    ``trusted_proxies`` are the networks whose ``X-Forwarded-For`` is believed.
    """

    late_seconds: ClassVar[int] = 3600
    """How long after an airing this source may still tell of it."""

    follows_open_sessions: ClassVar[bool] = True
    """False where a socket is only known once it has ended (an access log)."""

    tells_only_totals: ClassVar[bool] = False
    """True where listeners are counted and not told apart: no sessions, hence no audience of an airing."""

    joins_listeners: ClassVar[bool] = False
    """True where the server itself tells several sockets as one listener: what is counted is a lower bound."""

    options: ClassVar[Mapping[str, type | tuple[type, ...]]] = {}
    """The options that this backend takes in the settings, with their types."""

    def __init__(
        self,
        name: str,
        streams: Mapping[str, str],
        options: Mapping[str, Any],
        *,
        fallbacks: Mapping[str, Sequence[str]] | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.streams = dict(streams)
        self.fallbacks = {slug: tuple(mounts) for slug, mounts in (fallbacks or {}).items() if mounts}
        self.trusted_proxies = tuple(trusted_proxies)
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            allowed = ", ".join(sorted(self.options)) or "none"
            raise ConfigurationError(f"Unknown option {unknown[0]!r} of source {name!r}. Allowed: {allowed}.")
        for key, value in options.items():
            if not isinstance(value, self.options[key]):
                # Its type, not its value: it may be a password.
                raise ConfigurationError(
                    f"Option {key!r} of source {name!r} is of type {type(value).__name__};"
                    f" expected {_names(self.options[key])}."
                )
        self.configure(**options)

    def configure(self, **options: Any) -> None:
        """Takes the validated options; raises ConfigurationError."""

    def close(self) -> None:
        """Releases connections and files."""


def _names(kinds: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


class PullSource(Source):
    """A source that is asked: polled, or followed."""

    interval_seconds: float = 15.0
    """Time between two pulls; the collector never pulls one source twice at once."""

    @abstractmethod
    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        """What was heard since ``cursor`` ({} at first).

        Does network or file I/O only, never touches the database, returns
        within its time limit. Raises SourceUnavailable rather than returning
        an empty report when it could not hear.
        """


class PushSource(Source):
    """A source that is told: by callbacks or events over HTTP."""

    @abstractmethod
    def receive(self, payload: Mapping[str, Any], *, received_ms: int) -> Sequence[Observation]:
        """The observations of one call. Pure, fast; raises MalformedRecord."""
