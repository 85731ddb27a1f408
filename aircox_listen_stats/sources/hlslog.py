"""An HLS log read whole, for imports: nginx's lines in, stretches of listening that are over out, as columns.

What HlsSource hears by following, without a cursor: the same parser, the same
rules of who plays, but thousands of requests in one sweep.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import MalformedRecord
from ..kernel.arrays import Bools, Ints
from ..kernel.identity import normalise_agent, normalise_ip
from ..kernel.types import Address
from . import urlauth
from .hls import FUTURE_MS, HlsLine, HlsSource, Part, parse_line, part_of, rendition_name
from .segment_columns import Fetches, going_on, stretches_of
from .segments import DISORDER_MS

__all__ = ["FinishedStretches", "LineCounts", "LogReader", "Waiting", "read_stretches"]

BATCH_REQUESTS = 250_000
"""Requests that are looked at together: some 20 MB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedStretches:
    """Stretches that no later line makes longer, as columns, and what became of the lines since the last ones.

    ``stream`` holds slugs. ``who`` holds indices into ``addresses``, which are
    these stretches' own; ``identity_known`` is False where that is a proxy's.
    """

    stream: list[str]
    started_ms: Ints
    ended_ms: Ints
    who: Ints
    addresses: list[Address]
    identity_known: Bools
    bytes_sent: Ints
    delivered_ms: Ints
    rendition: list[str]
    switches: Ints
    referrer: list[str]  # '' where none was told
    lines: LineCounts

    def __len__(self) -> int:
        return len(self.stream)


@dataclass(slots=True, kw_only=True)
class LineCounts:
    """What became of lines, by reason. ``first_ms`` and ``last_ms`` bound the stamps of all that could be
    read, listening or not; 0 where none could."""

    by_reason: Counter[str] = field(default_factory=Counter)
    first_ms: int = 0
    last_ms: int = 0

    def stamped(self, at_ms: int) -> None:
        self.first_ms = min(self.first_ms or at_ms, at_ms)
        self.last_ms = max(self.last_ms, at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Who may still make a stretch longer, that began at ``since_ms`` or later."""

    stream: str
    address: Address
    since_ms: int


def read_stretches(
    lines: Iterable[bytes], source: HlsSource, *, now_ms: int, batch_requests: int = BATCH_REQUESTS
) -> Iterator[FinishedStretches]:
    """The stretches of a log, given line by line from its beginning to its end, some after each batch.

    A listener's stretches come out once they are over, hence nearly in the
    order of their ends, as the lines of an access log do. The last ones are
    taken to end with the log. ``source`` says what the streams are.
    """
    reader = LogReader(source, now_ms)
    limit = batch_requests
    for line in lines:
        reader.read(line)
        if len(reader) >= limit:
            yield reader.finished(reader.settled_ms)
            limit = batch_requests + len(reader)
    yield reader.finished(None)


@dataclass(slots=True, kw_only=True)
class _Visitor:
    """Who asks for one stream: a session id, or an address and agent."""

    stream: str
    address: Address
    is_named: bool
    identity_known: bool


class LogReader:
    """Requests in columns, until they are told of as stretches. Its length is how many wait.

    A line that is more than ``late_ms`` older than one before it is refused;
    without, none is.
    """

    def __init__(self, source: HlsSource, now_ms: int, *, late_ms: int | None = None) -> None:
        self.source = source
        self.now_ms = now_ms
        self.late_ms = late_ms
        self.newest_ms = 0
        self.visitor, self.at_ms, self.rendition, self.number, self.sent, self.referrer = (array("q") for _ in range(6))
        self.is_whole = array("b")
        self.visitors: list[_Visitor] = []
        self.visitor_of: dict[tuple[str, ...], int] = {}
        self.renditions: dict[str, int] = {}
        self.referrers: dict[str, int] = {}
        self.lines = LineCounts()

    def __len__(self) -> int:
        return len(self.at_ms)

    @property
    def settled_ms(self) -> int:
        """No line to come is older, unless the clock was set."""
        return self.newest_ms - DISORDER_MS

    def take_lines(self) -> LineCounts:
        """What became of the lines since this was asked last, here or by :meth:`finished`."""
        taken, self.lines = self.lines, LineCounts()
        return taken

    def read(self, line: bytes) -> None:
        """Takes a line without its newline; what is wrong with it is counted."""
        if not line:
            return
        counts = self.lines.by_reason
        counts["read"] += 1
        try:
            said = parse_line(line, session_argument=self.source.session_argument)
        except MalformedRecord as error:
            counts[f"refused_{error.reason}"] += 1
            return
        if said.ended_ms > self.now_ms + FUTURE_MS:
            counts["refused_future"] += 1
            return
        if self.late_ms is not None and said.ended_ms < self.newest_ms - self.late_ms:
            counts["refused_late"] += 1
            return
        self.newest_ms = max(self.newest_ms, said.ended_ms)
        self.lines.stamped(said.ended_ms)
        part, reason = part_of(said, self.source.groups)
        if part is None:
            counts[f"skipped_{reason}"] += 1
            return
        counts["kept"] += 1
        self.visitor.append(self._visitor(said, part))
        self.at_ms.append(said.ended_ms - min(said.duration_ms, self.source.target_ms))
        self.rendition.append(self.renditions.setdefault(part.rendition, len(self.renditions)))
        self.number.append(-1 if part.number is None else part.number)
        self.sent.append(0 if part.number is None else said.bytes_sent or 0)
        self.is_whole.append(part.is_whole)
        self.referrer.append(self.referrers.setdefault(said.referrer or "", len(self.referrers)))

    def _visitor(self, said: HlsLine, part: Part) -> int:
        """The number of who asks. A session id is one player's, whatever its address becomes."""
        agent = said.address.agent
        seen = (part.stream, said.session) if said.session else (part.stream, said.address.ip, agent, said.forwarded)
        found = self.visitor_of.get(seen)
        if found is not None:
            return found
        ip, identity_known = urlauth.beyond_proxies(said.address.ip, said.forwarded, self.source.trusted_proxies)
        who = seen if said.session else (part.stream, normalise_ip(ip), normalise_agent(agent))
        found = self.visitor_of.get(who)
        if found is None:
            found = self.visitor_of[who] = len(self.visitors)
            self.visitors.append(
                _Visitor(
                    stream=part.stream,
                    address=Address(ip=ip, agent=agent),
                    is_named=bool(said.session),
                    identity_known=identity_known,
                )
            )
        self.visitor_of[seen] = found
        return found

    def finished(self, until_ms: int | None) -> FinishedStretches:
        """The stretches that a line of ``until_ms`` or later makes no longer; all of them with None."""
        target_ms = self.source.target_ms
        fetches = self._fetches()
        is_open = np.zeros(len(fetches), dtype=np.bool_)
        if until_ms is not None:
            is_open = going_on(fetches, target_ms=target_ms, until_ms=until_ms)
        found = stretches_of(fetches.only(~is_open), target_ms=target_ms)
        numbers, who = np.unique(found.visitor, return_inverse=True)
        visitors = [self.visitors[number] for number in numbers.tolist()]
        told = FinishedStretches(
            stream=[self.visitors[number].stream for number in found.visitor.tolist()],
            started_ms=found.started_ms,
            ended_ms=found.ended_ms,
            who=who,
            addresses=[one.address for one in visitors],
            identity_known=np.array([one.identity_known for one in visitors], dtype=np.bool_)[who],
            bytes_sent=found.bytes_sent,
            delivered_ms=found.segments * self.source.segment_ms,
            rendition=found.name,
            switches=found.switches,
            referrer=found.referrer,
            lines=self.take_lines(),
        )
        self._keep(fetches.only(is_open))
        return told

    def waiting(self) -> list[Waiting]:
        """Of whom requests wait to be told of."""
        since_ms: dict[int, int] = {}
        for number, at_ms in zip(self.visitor, self.at_ms, strict=True):
            since_ms[number] = min(since_ms.get(number, at_ms), at_ms)
        visitors = ((self.visitors[number], at_ms) for number, at_ms in since_ms.items())
        return [Waiting(stream=one.stream, address=one.address, since_ms=at_ms) for one, at_ms in visitors]

    def _fetches(self) -> Fetches:
        def column(values: Iterable[int]) -> Ints:
            return np.array(values, dtype=np.int64)

        referrers = sorted(self.referrers)
        place = {one: number for number, one in enumerate(referrers)}
        in_order = column([place[one] for one in self.referrers])
        return Fetches(
            visitor=column(self.visitor),
            at_ms=column(self.at_ms),
            rendition=column(self.rendition),
            number=column(self.number),
            bytes_sent=column(self.sent),
            is_whole=column(self.is_whole).astype(np.bool_),
            referrer=in_order[column(self.referrer)],
            is_named=np.array([one.is_named for one in self.visitors], dtype=np.bool_),
            names=[rendition_name(one) for one in self.renditions],
            referrers=referrers,
        )

    def _keep(self, fetches: Fetches) -> None:
        """Goes on with these requests, with who made them and of what; all else is forgotten."""
        numbers, visitor = np.unique(fetches.visitor, return_inverse=True)
        fresh = {number: place for place, number in enumerate(numbers.tolist())}
        self.visitors = [self.visitors[number] for number in numbers.tolist()]
        self.visitor_of = {who: fresh[number] for who, number in self.visitor_of.items() if number in fresh}
        named, rendition = np.unique(fetches.rendition, return_inverse=True)
        known = list(self.renditions)
        self.renditions = {known[number]: place for place, number in enumerate(named.tolist())}
        told, referrer = np.unique(fetches.referrer, return_inverse=True)
        self.referrers = {fetches.referrers[number]: place for place, number in enumerate(told.tolist())}
        self.visitor, self.at_ms, self.rendition, self.number, self.sent, self.referrer = (
            array("q", column.tolist())
            for column in (visitor, fetches.at_ms, rendition, fetches.number, fetches.bytes_sent, referrer)
        )
        self.is_whole = array("b", fetches.is_whole.tolist())
