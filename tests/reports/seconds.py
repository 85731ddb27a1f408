"""The figures of periods by looking at every second: written apart from the engine, from FIGURES' words alone.

A session is (stream, listener, parts), parts in whole seconds from an origin that lies on a full quarter-hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

QUARTER = 900
FIVE_MINUTES = 300
MINIMUM = 60


@dataclass(frozen=True)
class Told:
    stream: int
    listener: int
    parts: Sequence[tuple[int, int]]

    @property
    def played(self) -> int:
        return sum(end - start for start, end in self.parts)


class Seconds:
    """Sessions of at least a minute, a row of truth values each: was it heard in that second?"""

    def __init__(self, told: Sequence[Told], length: int, *, minimum: int = MINIMUM) -> None:
        self.told = [one for one in told if one.played >= minimum]
        self.heard = np.zeros((len(self.told), length), dtype=bool)
        for row, one in zip(self.heard, self.told, strict=True):
            for start, end in one.parts:
                row[max(start, 0) : max(end, 0)] = True

    def figures(self, windows: Sequence[tuple[int, int]]) -> dict[str, float]:
        """Of the windows together; the second at which the peak began, and AQH over quarter-hours that they touch."""
        inside = np.zeros(self.heard.shape[1], dtype=bool)
        for start, end in windows:
            inside[start:end] = True
        heard = self.heard[:, inside]
        at_once = np.where(inside, self.heard.sum(axis=0), 0)
        met = [one for one, row in zip(self.told, heard, strict=True) if row.any()]
        begun = [one for one in met if any(start <= one.parts[0][0] < end for start, end in windows)]
        people = {one.listener: np.zeros(self.heard.shape[1], dtype=bool) for one in met}
        for one, row in zip(self.told, self.heard, strict=True):
            if one.listener in people:
                people[one.listener] |= row & inside
        enough, in_one_piece, quarters = 0, 0, 0
        for start, end in windows:
            for quarter in range(start // QUARTER * QUARTER, end, QUARTER):
                quarters += 1
                for mine in people.values():
                    here = mine[max(quarter, start) : min(quarter + QUARTER, end)]
                    enough += here.sum() >= FIVE_MINUTES
                    in_one_piece += longest(here) >= FIVE_MINUTES
        hull = 0
        for one in met:
            whole = np.zeros(self.heard.shape[1], dtype=bool)
            whole[max(one.parts[0][0], 0) : max(one.parts[-1][1], 0)] = True
            hull += (whole & inside).sum()
        return {
            "tlh": heard.sum() / 3600,
            "aas": heard.sum() / inside.sum(),
            "active_sessions": len(met),
            "started_sessions": len(begun),
            "atsl_seconds": heard.sum() / max(len(met), 1),
            "cume": len(people),
            "tsl_seconds": heard.sum() / max(len(people), 1),
            "reach": sum(mine.sum() >= FIVE_MINUTES for mine in people.values()),
            "aqh": enough / quarters,
            "aqh_in_one_piece": in_one_piece / quarters,
            "peak": at_once.max(),
            "peak_at": int(at_once.argmax()),
            "person_hours": sum(mine.sum() for mine in people.values()) / 3600,
            "elapsed_hours": hull / 3600,
        }


def longest(seconds: np.ndarray) -> int:
    """The longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], seconds, [False])).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
