"""Requests for segments, as stretches of listening: who plays, since when, up to where.

A segment asked for at ``t`` is heard during ``[t, t + target)``. A stretch is
the union of such windows, short holes bridged: a player that asks for nothing
during one refresh of its playlist plays on from its buffer. It is a function
of the requests in the order of the log; where a pull cuts the log changes nothing.

One address and agent without a session id may be several players. They are
told apart where the same segment is fetched twice, or where two renditions are
fetched side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..kernel.referrers import better

__all__ = ["Fetch", "Shelf", "Stretch", "Stretches"]

SILENT_TARGETS = 3
"""A longer silence than so many target durations is a pause. Seen: a player that misses a
refresh of its playlist is silent for two; players hold three segments in their buffer (RFC 8216, 6.3.3)."""

LEFT_TARGETS = 2
"""A rendition that is not asked for during so many target durations has been left for another."""

MEETINGS = 3
"""So often must two renditions bring the same number before they are two players. A player that tries
both at its start, or changes between them, brings some numbers twice, but at one or two moments."""

REMEMBERED_NUMBERS = 32
"""So many numbers back a segment is known to have been fetched; playlists hold fewer."""

MOST_PLAYERS = 64
"""So many players without a session id are told apart behind one address and agent."""

MOST_NAMES = 16
"""So many renditions of one stretch are told apart by name; outputs have two to six."""

DISORDER_MS = 60_000
"""Lines of one log are no further out of order than this, unless the clock was set."""

_FAR = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One request that is listening. ``number`` is None for a master playlist.

    ``visitor`` names who asks for what stream; ``is_named`` says that a session
    id does so, which is one player's. ``rendition`` tells renditions apart,
    ``name`` is what is kept of it ('' for nothing). ``is_whole`` is False where
    the same player may well ask for the segment again: a broken transfer, a
    part of it.
    """

    visitor: str
    is_named: bool
    stream: str
    at_ms: int
    rendition: int = 0
    name: str = ""
    number: int | None = None
    bytes_sent: int = 0
    is_whole: bool = True
    referrer: str | None = None


@dataclass(slots=True)
class Shelf:
    """The numbers fetched of one rendition lately: the highest, and a bit for each one below it."""

    top: int = -1
    bits: int = 0

    def has(self, number: int) -> bool:
        below = self.top - number
        return 0 <= below < REMEMBERED_NUMBERS and bool(self.bits >> below & 1)

    def add(self, number: int) -> None:
        above = number - self.top
        if above > 0:
            kept = self.bits << above if above < REMEMBERED_NUMBERS else 0
            self.top, self.bits = number, (kept | 1) & ((1 << REMEMBERED_NUMBERS) - 1)
        elif -above < REMEMBERED_NUMBERS:
            self.bits |= 1 << -above
        else:
            self.top, self.bits = number, 1  # the encoder began to count anew


@dataclass(slots=True, kw_only=True)
class _Guest:
    """A second rendition beside the one that is played: a try, a change, or another player."""

    rendition: int
    since_ms: int
    last_ms: int
    meetings: int = 0
    met_ms: int = -_FAR
    shelf: Shelf = field(default_factory=Shelf)


@dataclass(slots=True, kw_only=True)
class Stretch:
    """One player's listening without a pause. ``client`` numbers the stretches in the order of the log.

    ``sent`` counts the segments that were sent whole, by the rendition's name.
    """

    client: int
    stream: str
    started_ms: int
    last_ms: int
    is_heard: bool = False  # False: a master playlist alone
    bytes_sent: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    switches: int = 0
    rendition: int | None = None
    rendition_ms: int = 0  # when it was last asked for
    shelf: Shelf = field(default_factory=Shelf)
    guest: _Guest | None = None
    referrer: str | None = None  # of the requests since the memory was recalled

    def end_ms(self, target_ms: int) -> int:
        """Where the union of the windows ends, so far."""
        return self.last_ms + target_ms if self.is_heard else self.started_ms

    def delivered_ms(self, segment_ms: int) -> int:
        """The sound that was sent in segments of this length."""
        return sum(self.sent.values()) * segment_ms

    def name(self) -> str:
        """The rendition of which most was sent, of equals the first by name; '' for none that has a name."""
        return min(self.sent, key=lambda name: (-self.sent[name], name), default="")

    def has(self, rendition: int, number: int) -> bool:
        if rendition == self.rendition:
            return self.shelf.has(number)
        return self.guest is not None and self.guest.rendition == rendition and self.guest.shelf.has(number)


class Stretches:
    """The stretches that may go on. ``memory`` is what :meth:`remembered` gave."""

    def __init__(self, memory: Mapping[str, Any], *, target_ms: int) -> None:
        self.target_ms = target_ms
        self.silence_ms = SILENT_TARGETS * target_ms
        self.last_client = int(memory.get("client", 0))
        self.newest_ms = int(memory.get("newest_ms", 0))
        self.players: dict[str, list[Stretch]] = {
            visitor: [_recalled(row) for row in rows] for visitor, rows in memory.get("playing", {}).items()
        }
        self.crowded = 0

    def remembered(self) -> dict[str, Any]:
        """What the next pull needs to know, ready for JSON."""
        limit_ms = self.silence_ms + DISORDER_MS
        players = {
            visitor: [_row(one) for one in some if abs(self.newest_ms - one.last_ms) <= limit_ms]
            for visitor, some in self.players.items()
        }
        return {
            "client": self.last_client,
            "newest_ms": self.newest_ms,
            "playing": {visitor: rows for visitor, rows in players.items() if rows},
        }

    def note(self, at_ms: int) -> None:
        """Takes a line's instant. One far back says that the clock was set."""
        if at_ms > self.newest_ms or at_ms < self.newest_ms - DISORDER_MS:
            self.newest_ms = at_ms

    def take(self, one: Fetch) -> Sequence[Stretch]:
        """The stretches that ``one`` begins or makes longer; () where it tells nothing new."""
        going_on = [
            player for player in self.players.get(one.visitor, ()) if abs(one.at_ms - player.last_ms) <= self.silence_ms
        ]
        self.players[one.visitor] = going_on
        if one.number is None:
            return () if going_on else (self._open(one),)
        if one.is_named:
            player = going_on[0] if going_on else None
        else:
            player = self._player(one, one.number, going_on)
        player = player or self._open(one)
        other = self._hear(player, one, one.number)
        return (player,) if other is None else (player, other)

    def _open(self, one: Fetch, since_ms: int | None = None) -> Stretch:
        self.last_client += 1
        started_ms = one.at_ms if since_ms is None else since_ms
        fresh = Stretch(
            client=self.last_client,
            stream=one.stream,
            started_ms=started_ms,
            last_ms=one.at_ms,
            referrer=one.referrer,
        )
        self.players[one.visitor].append(fresh)
        return fresh

    def _player(self, one: Fetch, number: int, players: Sequence[Stretch]) -> Stretch | None:
        """Whose request it is; None where all have fetched this segment already: a player more."""
        free = [player for player in players if not (one.is_whole and player.has(one.rendition, number))]
        if not free and len(players) >= MOST_PLAYERS:
            self.crowded += 1
            free = list(players)

        def due(player: Stretch) -> tuple[int, int, int, int]:
            """Best one who plays this rendition and fetched the number before, then who waits longest."""
            if player.rendition in (None, one.rendition):
                ahead = number - player.shelf.top
                return 0, ahead if ahead >= 0 else _FAR, player.rendition_ms, player.client
            is_host = player.guest is not None and player.guest.rendition == one.rendition
            return 1 if is_host else 2, 0, player.last_ms, player.client

        return min(free, key=due, default=None)

    def _hear(self, player: Stretch, one: Fetch, number: int) -> Stretch | None:
        """Makes ``player`` hear it; another player where that becomes plain now."""
        player.last_ms = max(player.last_ms, one.at_ms)
        player.is_heard = True
        player.referrer = better(player.referrer, one.referrer)
        # Also of a guest: should it become another player, their sums together are right.
        player.bytes_sent += one.bytes_sent
        if one.is_whole:
            name = one.name if one.name in player.sent or len(player.sent) < MOST_NAMES else ""
            player.sent[name] = player.sent.get(name, 0) + 1
        guest = player.guest
        if one.is_named or player.rendition in (None, one.rendition):
            player.switches += player.rendition not in (None, one.rendition)
            player.rendition = one.rendition
            player.rendition_ms = one.at_ms
            if not one.is_named and one.is_whole:
                player.shelf.add(number)
            return self._meet(player, one, number, guest.shelf) if guest else None
        if guest is None or guest.rendition != one.rendition or one.at_ms - guest.last_ms > self.silence_ms:
            guest = _Guest(rendition=one.rendition, since_ms=one.at_ms, last_ms=one.at_ms)
            player.guest = guest
        guest.last_ms = one.at_ms
        if one.is_whole:
            guest.shelf.add(number)
        if one.at_ms - player.rendition_ms > LEFT_TARGETS * self.target_ms:
            self._change(player, guest)
            return None
        return self._meet(player, one, number, player.shelf)

    @staticmethod
    def _change(player: Stretch, guest: _Guest) -> None:
        """The player has changed to the guest's rendition."""
        player.rendition, player.rendition_ms, player.shelf = guest.rendition, guest.last_ms, guest.shelf
        player.switches += 1
        player.guest = None

    def _meet(self, player: Stretch, one: Fetch, number: int, others: Shelf) -> Stretch | None:
        """Notes that both renditions brought the number; the guest as a player of its own once that is plain."""
        guest = player.guest
        assert guest is not None
        if not (one.is_whole and others.has(number)) or one.at_ms - guest.met_ms < self.target_ms // 2:
            return None
        guest.meetings += 1
        guest.met_ms = one.at_ms
        if guest.meetings < MEETINGS or len(self.players[one.visitor]) >= MOST_PLAYERS:
            return None
        player.guest = None
        fresh = self._open(one, since_ms=guest.since_ms)
        fresh.last_ms = guest.last_ms
        fresh.is_heard = True
        fresh.rendition, fresh.rendition_ms, fresh.shelf = guest.rendition, guest.last_ms, guest.shelf
        return fresh


def _row(one: Stretch) -> list[Any]:
    """A stretch in the cursor. No address, agent or session id is in it."""
    row = [
        one.client,
        one.stream,
        one.started_ms,
        one.last_ms,
        int(one.is_heard),
        one.bytes_sent,
        one.sent,
        one.switches,
        one.rendition,
        one.rendition_ms,
        one.shelf.top,
        one.shelf.bits,
    ]
    guest = one.guest
    if guest is None:
        return row
    return [
        *row,
        guest.rendition,
        guest.since_ms,
        guest.last_ms,
        guest.meetings,
        guest.met_ms,
        guest.shelf.top,
        guest.shelf.bits,
    ]


def _recalled(row: Sequence[Any]) -> Stretch:
    client, stream, started_ms, last_ms, is_heard, bytes_sent, sent, switches, *rest = row
    rendition, rendition_ms, top, bits, *rest = rest
    guest = None
    if rest:
        other, since_ms, guest_ms, meetings, met_ms, guest_top, guest_bits = rest
        guest = _Guest(
            rendition=other,
            since_ms=since_ms,
            last_ms=guest_ms,
            meetings=meetings,
            met_ms=met_ms,
            shelf=Shelf(guest_top, guest_bits),
        )
    return Stretch(
        client=client,
        stream=stream,
        started_ms=started_ms,
        last_ms=last_ms,
        is_heard=bool(is_heard),
        bytes_sent=bytes_sent,
        sent=dict(sent),
        switches=switches,
        rendition=rendition,
        rendition_ms=rendition_ms,
        shelf=Shelf(top, bits),
        guest=guest,
    )
