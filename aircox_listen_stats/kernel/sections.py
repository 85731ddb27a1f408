"""Which sections of a recording were heard, and how many held out until when.

The rules are PeerTube's: a player tells where in the recording it is, and the
section that it is in grows to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Floats
from .types import MS

__all__ = ["MAX_SECTIONS", "Sections", "retention", "sections_of"]

MAX_SECTIONS = 100
"""Of one player in one recording (PeerTube): further ones are dropped and counted."""

Section = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What one player heard of one recording, ``[from, to]`` in the recording's time, in the order heard.

    ``dropped`` counts the events that came once there were too many sections.
    """

    sections: tuple[Section, ...]
    dropped: int = 0

    @property
    def played_ms(self) -> int:
        """Listening time: what was heard twice counts twice."""
        return sum(end_ms - start_ms for start_ms, end_ms in self.sections)


def sections_of(told: Iterable[tuple[bool, int]]) -> Sections:
    """The sections of ``(is it a seek, position)`` events, in their order; empty sections are left out.

    A seek begins a section, and so does a position before the section's own
    start; any other position is where the section ends now, also when it is
    earlier than it was.
    """
    sections: list[list[int]] = []
    dropped = 0
    for is_seek, position_ms in told:
        begins = is_seek or not sections or position_ms < sections[-1][0]
        # Once one was dropped it is not known which section a position belongs to.
        if dropped or (begins and len(sections) >= MAX_SECTIONS):
            dropped += 1
        elif begins:
            sections.append([position_ms, position_ms])
        else:
            sections[-1][1] = position_ms
    return Sections(sections=tuple((start, end) for start, end in sections if end > start), dropped=dropped)


def retention(plays: Sequence[Sequence[Section]], *, duration_ms: int) -> Floats:
    """The share of ``plays`` that heard each whole second from 0 to the duration's, both included.

    A play counts once in a second, however often it heard it, and hears the
    whole second in which a section begins or ends. Empty without plays.
    """
    seconds = duration_ms // MS + 1
    if not plays:
        return np.zeros(0)
    present = np.zeros(seconds + 1)
    for sections in plays:
        reached = 0
        for start_ms, end_ms in sorted(sections):
            first = max(reached, start_ms // MS)
            after = min(seconds, end_ms // MS + 1)
            if first < after:
                present[first] += 1
                present[after] -= 1
                reached = after
    return np.cumsum(present[:-1]) / len(plays)
