"""Tracks during which more tuned out than in the rest of the diffusion, where that is sure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ..kernel.baseline import chance_of_count
from .figures import MINUTE, Figures

LEAST_SESSIONS = 20
"""With fewer sessions during a track nothing is said of it: one more who leaves is five per cent of them."""

SURE = 0.05
"""A track stands out where chance would single one out in fewer than one diffusion in twenty. Fisher 1925."""

LEAST_RATIO = 1.5
"""With thousands of listeners a tenth more is no chance either, and nothing that a producer should act on."""

AT_THE_END = MINUTE
"""A track that ends so near to the end of the diffusion is not judged: people leave when a program is over."""


class Heard(Protocol):
    """A track with the audience of its own span."""

    @property
    def airing_id(self) -> int: ...
    @property
    def title(self) -> str: ...
    @property
    def started(self) -> dt.datetime: ...
    @property
    def ended(self) -> dt.datetime: ...
    @property
    def figures(self) -> Figures | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOut:
    """How many tuned out during a track beside how many would at the rate of the rest of the diffusion.

    Rates are by listening time. ``chance``: how often chance alone makes any
    of the ``judged`` tracks of a diffusion differ as much (Bonferroni).
    """

    airing_id: int
    title: str
    left: int
    expected: float
    chance: float
    judged: int

    @property
    def stands_out(self) -> bool:
        return self.chance < SURE and self.left >= LEAST_RATIO * self.expected

    @property
    def one_in(self) -> int:
        """Chance alone does it less than one time in so many: a round number, no more than is known."""
        return next(odds for odds in (1000, 100, 50, 20, 1) if self.chance < 1 / odds or odds == 1)


def tune_outs(
    tracks: Iterable[Heard], started: dt.datetime, ended: dt.datetime, whole: Figures | None
) -> list[TuneOut]:
    """Each track that can be judged, in order.

    Nothing is said while figures are provisional, where a part was not observed, of a track that reaches out
    of the diffusion ``[started, ended)`` or ends with it, or with fewer than LEAST_SESSIONS.
    """
    if whole is None or not _is_firm(whole):
        return []
    inside = [
        (one, one.figures)
        for one in tracks
        if one.figures is not None and one.started >= started and one.ended <= ended - AT_THE_END
    ]
    judged = [(one, own) for one, own in inside if _is_firm(own) and (own.sessions or 0) >= LEAST_SESSIONS]
    found = (_compared(one, own, whole, len(judged)) for one, own in judged)
    return [one for one in found if one is not None]


def _is_firm(figures: Figures) -> bool:
    return figures.settled and not figures.is_lower_bound


def _compared(one: Heard, own: Figures, whole: Figures, judged: int) -> TuneOut | None:
    if own.left is None or whole.left is None or not own.listening_hours or not whole.listening_hours:
        return None
    rest_hours, rest_left = whole.listening_hours - own.listening_hours, whole.left - own.left
    if rest_hours <= 0 or rest_left < 0:
        return None
    chance = chance_of_count(own.left, rest_left, own.listening_hours / whole.listening_hours)
    return TuneOut(
        airing_id=one.airing_id,
        title=one.title,
        left=own.left,
        expected=rest_left * own.listening_hours / rest_hours,
        chance=min(chance * judged, 1.0),
        judged=judged,
    )
