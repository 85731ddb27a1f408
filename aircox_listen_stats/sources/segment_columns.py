"""Requests for segments by the thousand, as columns: the stretches that segments.py finds one request at a time.

Players of whom nothing is to be guessed, nearly all, go through the kernel's
sweep: those with an id of their own, and those of one rendition whose numbers
rise. The others, of whom one may be two, go through :class:`Stretches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..kernel.arrays import Bools, Ints, order_of
from ..kernel.segments import stitch_segments
from .segments import MOST_NAMES, SILENT_TARGETS, Fetch, Stretch, Stretches

__all__ = ["Fetches", "StretchColumns", "going_on", "stretches_of", "stretches_one_by_one"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fetches:
    """Requests that are listening, in the order of the log: what :class:`Fetch` says of one.

    ``visitor`` holds indices into ``is_named``, ``rendition`` into ``names``,
    ``referrer`` into ``referrers``, which are in order, '' for none told;
    ``number`` is -1 for a master playlist.
    """

    visitor: Ints
    at_ms: Ints
    rendition: Ints
    number: Ints
    bytes_sent: Ints
    is_whole: Bools
    referrer: Ints
    is_named: Bools
    names: Sequence[str]
    referrers: Sequence[str]

    def __len__(self) -> int:
        return len(self.visitor)

    def only(self, rows: Bools | Ints) -> Fetches:
        """These rows alone."""
        return Fetches(
            visitor=self.visitor[rows],
            at_ms=self.at_ms[rows],
            rendition=self.rendition[rows],
            number=self.number[rows],
            bytes_sent=self.bytes_sent[rows],
            is_whole=self.is_whole[rows],
            referrer=self.referrer[rows],
            is_named=self.is_named,
            names=self.names,
            referrers=self.referrers,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StretchColumns:
    """Stretches by visitor, start, end, bytes. ``segments`` were sent whole; ``name`` is of most of them, or ''.

    ``referrer`` is what :func:`..kernel.referrers.better` makes of the requests', or ''.
    """

    visitor: Ints
    started_ms: Ints
    ended_ms: Ints
    bytes_sent: Ints
    segments: Ints
    switches: Ints
    name: list[str]
    referrer: list[str]

    def __len__(self) -> int:
        return len(self.visitor)


def stretches_of(fetches: Fetches, *, target_ms: int) -> StretchColumns:
    """The stretches of all these requests, each of which ends with them."""
    if len(fetches) == 0:
        return _sorted([])
    by_visitor = fetches.only(order_of(fetches.visitor))
    is_plain = _plain(by_visitor, SILENT_TARGETS * target_ms)
    swept = _swept(by_visitor.only(is_plain[by_visitor.visitor]), target_ms)
    return _sorted([*swept, *_one_by_one(fetches.only(~is_plain[fetches.visitor]), target_ms)])


def stretches_one_by_one(fetches: Fetches, *, target_ms: int) -> StretchColumns:
    """The same without a sweep: what :func:`stretches_of` must give."""
    return _sorted(list(_one_by_one(fetches, target_ms)))


def going_on(fetches: Fetches, *, target_ms: int, until_ms: int) -> Bools:
    """Which requests are of stretches that a request at ``until_ms`` or later might make longer.

    What went before a silence of the same visitor is over for good; of one
    whose requests came out of order, everything counts as one.
    """
    order = order_of(fetches.visitor)
    visitor, at_ms = fetches.visitor[order], fetches.at_ms[order]
    step = np.diff(at_ms)
    same = visitor[1:] == visitor[:-1]
    is_disordered = np.zeros(len(fetches.is_named), dtype=np.bool_)
    is_disordered[visitor[1:][same & (step < 0)]] = True
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = ~same | ((step > SILENT_TARGETS * target_ms) & ~is_disordered[visitor[1:]])
    first = np.flatnonzero(begins)
    last_ms = np.maximum.reduceat(at_ms, first) if len(first) else at_ms
    is_open = np.empty(len(order), dtype=np.bool_)
    is_open[order] = np.repeat(last_ms + SILENT_TARGETS * target_ms >= until_ms, np.diff(first, append=len(order)))
    return is_open


_Row = tuple[int, int, int, int, int, int, str, str]
"""What a stretch's columns hold, in their order."""


def _sorted(rows: list[_Row]) -> StretchColumns:
    rows.sort()
    numbers = np.array([row[:6] for row in rows], dtype=np.int64).reshape(-1, 6)
    visitor, started_ms, ended_ms, bytes_sent, segments, switches = numbers.T
    return StretchColumns(
        visitor=visitor,
        started_ms=started_ms,
        ended_ms=ended_ms,
        bytes_sent=bytes_sent,
        segments=segments,
        switches=switches,
        name=[row[6] for row in rows],
        referrer=[row[7] for row in rows],
    )


def _plain(by_visitor: Fetches, silence_ms: int) -> Bools:
    """Of which visitors the sweep tells what :class:`Stretches` tells. The rows come by visitor."""
    visitor, at_ms, number = by_visitor.visitor, by_visitor.at_ms, by_visitor.number
    rendition, is_master = by_visitor.rendition, by_visitor.number < 0
    same = visitor[1:] == visitor[:-1]
    step = np.diff(at_ms)
    follows = same & (step <= silence_ms)
    both = ~is_master[1:] & ~is_master[:-1]
    changes = follows & both & (rendition[1:] != rendition[:-1])
    is_named = by_visitor.is_named[visitor[1:]]
    are_named_apart = len(set(by_visitor.names)) == len(by_visitor.names) <= MOST_NAMES
    odd = same & (step < 0)  # out of order
    odd |= follows & is_master[1:]  # a master playlist while somebody plays, or asks for a second time
    odd |= changes & ((step == 0) if are_named_apart else True)
    odd |= ~is_named & (changes | (follows & both & (number[1:] <= number[:-1])))
    is_plain = np.ones(len(by_visitor.is_named), dtype=np.bool_)
    is_plain[visitor[1:][odd]] = False
    is_plain[visitor[~by_visitor.is_whole]] = False
    return is_plain


def _swept(by_visitor: Fetches, target_ms: int) -> Iterator[_Row]:
    """The stretches of plain visitors: a stretch for each silence, begun by a master playlist where one came first."""
    if len(by_visitor) == 0:
        return
    silence_ms = SILENT_TARGETS * target_ms
    visitor, at_ms, is_master = by_visitor.visitor, by_visitor.at_ms, by_visitor.number < 0
    begins = np.ones(len(visitor), dtype=np.bool_)
    begins[1:] = (visitor[1:] != visitor[:-1]) | (np.diff(at_ms) > silence_ms)
    first = np.flatnonzero(begins)
    is_looked_at = is_master[first] & (np.diff(first, append=len(visitor)) == 1)  # a master playlist alone
    # Renditions by name, so that of equals the first by name is taken.
    names = sorted(set(by_visitor.names))
    place = {name: number for number, name in enumerate(names)}
    rank = np.array([place[name] for name in by_visitor.names], dtype=np.int64)
    heard = by_visitor.only(~is_master)
    found = stitch_segments(
        heard.visitor,
        heard.at_ms,
        heard.bytes_sent,
        rank[heard.rendition],
        target_ms=target_ms,
        silence_ms=silence_ms,
        gap_ms=silence_ms - target_ms,
    )
    referrer = np.maximum.reduceat(by_visitor.referrer, first)
    begun = first[~is_looked_at]
    yield from zip(
        found.listener.tolist(),
        at_ms[begun].tolist(),
        found.ended_ms.tolist(),
        found.bytes_sent.tolist(),
        found.segments.tolist(),
        found.switches.tolist(),
        [names[number] for number in found.rendition.tolist()],
        [by_visitor.referrers[number] for number in referrer[~is_looked_at].tolist()],
        strict=True,
    )
    for row in first[is_looked_at].tolist():
        told = by_visitor.referrers[by_visitor.referrer[row]]
        yield int(visitor[row]), int(at_ms[row]), int(at_ms[row]), 0, 0, 0, "", told


def _one_by_one(fetches: Fetches, target_ms: int) -> Iterator[_Row]:
    stretches = Stretches({}, target_ms=target_ms)
    found: dict[int, tuple[int, Stretch]] = {}
    columns = (
        *(fetches.visitor, fetches.at_ms, fetches.rendition, fetches.number),
        *(fetches.bytes_sent, fetches.is_whole, fetches.referrer),
    )
    rows = zip(*(one.tolist() for one in columns), strict=True)
    for visitor, at_ms, rendition, number, sent, is_whole, referrer in rows:
        fetch = Fetch(
            visitor=str(visitor),
            is_named=bool(fetches.is_named[visitor]),
            stream="",
            at_ms=at_ms,
            rendition=rendition,
            name=fetches.names[rendition],
            number=None if number < 0 else number,
            bytes_sent=sent,
            is_whole=is_whole,
            referrer=fetches.referrers[referrer] or None,
        )
        for one in stretches.take(fetch):
            found[one.client] = (visitor, one)
    for visitor, one in found.values():
        sent = sum(one.sent.values())
        end_ms = one.end_ms(target_ms)
        yield visitor, one.started_ms, end_ms, one.bytes_sent, sent, one.switches, one.name(), one.referrer or ""
