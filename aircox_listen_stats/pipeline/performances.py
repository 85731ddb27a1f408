"""Performances of some streams alone: computed from the sessions, where a play's stored figures are of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from .. import conf
from ..fields import to_ms
from ..kernel import correlate
from ..models import Stream
from ..reports.performances import READ_AT_ONCE, RULE_SET, Play
from .heard import covered, heard, sessions_known_from_ms
from .lateness import late_ms


def of_streams(plays: Iterable[Play], streams: Sequence[Stream], *, now_ms: int) -> Iterator[Play]:
    """The plays with what ``streams``, at least one, tell of them.

    Unknown where the sessions have expired or nothing was observed.
    """
    known_from_ms = sessions_known_from_ms(now_ms)
    rest = iter(plays)
    while some := list(islice(rest, READ_AT_ONCE)):
        yield from _computed(some, streams, known_from_ms, now_ms - late_ms(streams))


def _computed(
    plays: Sequence[Play], streams: Sequence[Stream], known_from_ms: int, settled_before_ms: int
) -> Iterator[Play]:
    starts = np.array([to_ms(play.started) for play in plays], dtype=np.int64)
    ends = np.array([to_ms(play.ended) for play in plays], dtype=np.int64)
    found = heard(streams, int(starts.min()), int(ends.max()))
    listening = found.listening.only(found.counting(conf.get().rules(RULE_SET)))
    columns = correlate.audience(listening, starts, ends)
    shares = covered(streams, starts, ends)
    for place, play in enumerate(plays):
        listening_ms = int(columns.listening_ms[place])
        is_known = starts[place] >= known_from_ms and (shares[place] > 0 or listening_ms > 0)
        yield replace(
            play,
            performances=int(columns.listeners[place]) if is_known else None,
            listening_ms=listening_ms if is_known else None,
            coverage=float(shares[place]) if is_known else None,
            settled=found.is_settled(int(ends[place]), settled_before_ms),
        )
