"""The values that travel between the rooms: frozen, keyword-only, without Django.

Instants are whole milliseconds since 1970-01-01 UTC (``_ms``), intervals are
half-open ``[start, end)``. A connection is a socket, a session is listening,
a listener is a pseudonym.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "Address",
    "Airing",
    "Basis",
    "ConnectionSpan",
    "Exclusion",
    "Layer",
    "ListenerMark",
    "Observation",
    "RuleSet",
    "SessionSpan",
]

MS = 1000
"""Milliseconds in a second."""


class Layer(StrEnum):
    """Which log of the station an airing belongs to."""

    DIFFUSION = "diffusion"
    SOUND = "sound"
    TRACK = "track"


class Basis(StrEnum):
    """On what evidence a bound of an airing stands, best first."""

    OBSERVED = "observed"  # the Monitor hook saw the change
    LOGGED = "logged"  # a row of aircox's Log says so
    SCHEDULED = "scheduled"  # the Diffusion's planned time
    INFERRED = "inferred"  # a duration, or the next item, says so


class Exclusion(StrEnum):
    """Why a session does not count. The empty label counts."""

    NONE = ""
    BOT = "bot"
    MONITOR = "monitor"
    RELAY = "relay"
    STAFF = "staff"
    CLOUD = "cloud"  # a machine in a data centre
    REPLACED = "replaced"  # another source tells of the same listening
    QUARANTINE = "quarantine"  # set aside until somebody has decided


class Why(StrEnum):
    """Why a settled figure is not what it was."""

    LATE = "late"  # listening was told late, or told better
    LABEL = "label"  # somebody counts, or no longer does
    BACKFILL = "backfill"  # a second source took the place of the first, or gave it back
    REBUILD = "rebuild"
    TIMELINE = "timeline"  # what was on air is known to be something else, or at another time
    ANEW = "anew"  # nothing became stale: the settings, or the way of counting, changed


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Address:
    """Where a socket came from. Lives in memory only; its repr hides it."""

    ip: str
    agent: str = ""

    def __repr__(self) -> str:
        return "Address(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerMark:
    """What stays of an address and an agent after the forgetting.

    ``listener`` is the key under the period's secret, ``previous`` the key
    under the secret before it (None where that one is destroyed), so that a
    session across a rotation stays one. ``periods`` are the listener's keys
    under the secrets of the running week and month: kind, start, key.
    """

    listener: int
    previous: int | None = None
    country: str = ""
    app: str = ""
    exclusion: str = ""
    rule: str = ""  # the name of the rule that excluded it
    periods: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One socket heard on one stream, as a source tells it.

    The socket was listening during ``[started_ms, seen_ms]``; ``ended`` says
    that ``seen_ms`` is its end, else it is its last sighting. ``client`` is
    the server's own number of the socket (None where the server tells none);
    with it and the start, two ears of one server agree on which socket is
    meant. Exactly one of ``address`` and ``mark`` is given: a source that
    forgets at the door (a callback) hands over the mark.
    ``start_known`` is False where only the first sighting is known,
    ``identity_known`` is False where the address is that of the station's own
    proxy: another ear's word on who this is, is better. ``delivered_ms`` is the
    sound that was sent (HLS), ``rendition`` the one of which most was, ``switches``
    the changes between them; like ``bytes_sent`` they only grow. ``referrer``
    is a host as :mod:`.referrers` has it, None where the source tells none.
    """

    stream: str  # slug of the stream in the settings
    started_ms: int
    seen_ms: int
    ended: bool = False
    client: str | None = None
    address: Address | None = None
    mark: ListenerMark | None = None
    bytes_sent: int | None = None
    delivered_ms: int | None = None
    rendition: str = ""
    switches: int | None = None
    referrer: str | None = None
    start_known: bool = True
    identity_known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSpan:
    """A socket of one listener on one stream, ready for stitching."""

    key: str  # names the socket; ties are broken by it, so that order of arrival does not matter
    started_ms: int
    seen_ms: int
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpan:
    """Stitched listening of one listener on one stream.

    ``lane`` tells the members of a household apart (0 is the first).
    ``parts`` are disjoint, sorted, absolute ``(start_ms, end_ms)`` pairs whose
    hull is ``[started_ms, ended_ms)`` and whose union lasts ``played_ms``.
    """

    started_ms: int
    ended_ms: int
    played_ms: int
    parts: tuple[tuple[int, int], ...]
    is_open: bool
    lane: int
    keys: tuple[str, ...]  # the sockets it was made of


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Thresholds under a name that is printed beside every figure."""

    name: str
    gap_seconds: int = 300
    minimum_seconds: int = 60
    minimum_is_strict: bool = False  # True: played must exceed the minimum
    quarter_hour_seconds: int = 0  # > 0: that much in one clock quarter-hour
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Airing:
    """Something that was on air during ``[started_ms, ended_ms)``.

    ``key`` names it within its station and layer for ever, whatever is rebuilt.
    Ids are aircox's, titles are snapshots.
    """

    station_id: int
    layer: Layer
    key: str
    started_ms: int
    ended_ms: int
    start_basis: Basis
    end_basis: Basis
    title: str = ""
    artist: str = ""
    program_id: int | None = None
    program_title: str = ""
    episode_id: int | None = None
    diffusion_id: int | None = None
    initial_id: int | None = None  # the diffusion that this one repeats
    sound_id: int | None = None
    track_id: int | None = None
    is_live: bool = False
    is_running: bool = False  # still on air: the end is only expected
    scheduled_start_ms: int | None = None
    scheduled_end_ms: int | None = None
    notes: tuple[str, ...] = ()  # e.g. "cancelled by the monitor while on air"
