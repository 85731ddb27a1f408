"""How many listeners an address has at least: what can be concluded from sockets of whom no more is known."""

from __future__ import annotations

import numpy as np

from .arrays import Bools, Ints, Words

__all__ = ["FEW", "carries_some", "listeners_of"]

FEW = 8
"""A home of fewer than one in so many sockets is not looked at more closely."""


def listeners_of(home: Words, player: Ints, started_ms: Ints, ended_ms: Ints) -> tuple[Words, Ints]:
    """The different homes, ascending, and how many listeners each has: never more than there are.

    All of shape (sockets,): where the socket is, with which player, from when
    to when. A home has its sockets at once, or its different players, whichever
    are more: who reconnects all day is one, three radios are three. Who leaves
    makes room for who comes at the same instant.
    """
    order = np.lexsort((player, home))
    homes, begins = _runs(home[order])
    is_new = begins.copy()
    is_new[1:] |= player[order][1:] != player[order][:-1]
    firsts = np.flatnonzero(begins)
    players = np.add.reduceat(is_new.astype(np.int64), firsts) if len(firsts) else firsts
    return homes, np.maximum(players, _at_once(home, started_ms, ended_ms))


def carries_some(home: Words) -> bool:
    """Whether one home has more than one in FEW of the sockets: found in one pass, without sorting.

    In order, such a home would stand at one of the places that part the
    sockets into FEW.
    """
    places = np.arange(1, FEW) * len(home) // FEW
    candidates = np.unique(np.partition(home, places)[places]) if len(home) else home
    return any(FEW * int(np.count_nonzero(home == one)) > len(home) for one in candidates)


def _at_once(home: Words, started_ms: Ints, ended_ms: Ints) -> Ints:
    """How many sockets each home had at one instant at most, by home."""
    at_ms = np.concatenate((started_ms, np.maximum(started_ms, ended_ms)))
    step = np.repeat(np.array([1, -1]), len(home))
    homes = np.concatenate((home, home))
    order = np.lexsort((step, at_ms, homes))
    _, begins = _runs(homes[order])
    firsts = np.flatnonzero(begins)
    # Each home's steps come to nothing, so that the next one's sum begins at zero again.
    return np.maximum.reduceat(np.cumsum(step[order]), firsts) if len(firsts) else firsts


def _runs(ordered: Words) -> tuple[Words, Bools]:
    """The different values, and where each begins."""
    begins = np.ones(len(ordered), dtype=np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    return ordered[begins], begins
