"""What a session is labelled once rulings have spoken: a pure function of what was told and of the rulings.

A ruling is kept and a label is derived, so that whatever is stitched anew
gets its label again, and a ruling that is revoked leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .types import MS, Exclusion

__all__ = ["Facts", "Ruling", "Rulings"]

SAME_START_MS = 3 * MS
"""A session's start may still move so far: a poll counts whole seconds, a callback comes earlier."""


class Facts(NamedTuple):
    """What rulings look at. ``exclusion`` and ``rule`` are as they were told.

    What a web player told has no stream and no source. ``once`` names the
    ruling that spoke while it was known whose it was; '' while it is.
    """

    stream_id: int | None
    source: str
    exclusion: str
    rule: str
    app: str
    listener: int | None
    started_ms: int
    ended_ms: int
    is_open: bool
    once: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A word on labels. What is empty or None is not asked for.

    With ``only_source`` it is a back-fill's: of what touches the window, that
    source's sessions count and no others, but for those that end after
    ``heard_until_ms``, of which that source knows nothing. ``also`` are
    (listener, start) of sessions beside the window that it tells of too.
    """

    number: int
    exclusion: str = ""
    stream_id: int | None = None
    source: str = ""
    told_exclusion: str = ""
    told_rule: str = ""
    app: str = ""
    listener: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    only_source: str = ""
    heard_until_ms: int | None = None
    also: tuple[tuple[int, int], ...] = ()
    is_revoked: bool = False

    @property
    def name(self) -> str:
        """How the rule is called on a session."""
        return self.only_source or f"ruling {self.number}"

    def meets(self, facts: Facts) -> bool:
        """Is the ruling about this session?"""
        return self.name == facts.once or (
            self.stream_id in (None, facts.stream_id)
            and self.source in ("", facts.source)
            and self.told_exclusion in ("", facts.exclusion)
            and self.told_rule in ("", facts.rule)
            and self.app in ("", facts.app)
            and self.listener in (None, facts.listener)
            and (self._is_inside(facts) or self._is_beside(facts))
        )

    def _is_inside(self, facts: Facts) -> bool:
        if self.heard_until_ms is not None and (facts.is_open or facts.ended_ms > self.heard_until_ms):
            return False
        ended_ms = max(facts.ended_ms, facts.started_ms + 1)  # an empty session is at its instant
        return (self.to_ms is None or facts.started_ms < self.to_ms) and (
            self.from_ms is None or ended_ms > self.from_ms
        )

    def _is_beside(self, facts: Facts) -> bool:
        return any(
            listener == facts.listener and abs(started_ms - facts.started_ms) <= SAME_START_MS
            for listener, started_ms in self.also
        )


class Rulings:
    """All rulings together: back-fills before technicians, of each the newest first."""

    def __init__(self, rulings: Iterable[Ruling]) -> None:
        newest_first = sorted(rulings, key=lambda one: one.number, reverse=True)
        self._backfills = [one for one in newest_first if one.only_source and not one.is_revoked]
        self._others = [one for one in newest_first if not one.only_source and not one.is_revoked]
        self._filled_in = {one.only_source for one in newest_first if one.only_source}

    def __bool__(self) -> bool:
        return bool(self._filled_in or self._others)

    def label(self, facts: Facts) -> tuple[str, str] | None:
        """The label and its rule; None where no ruling speaks and what was told stands."""
        if self._filled_in:
            replaced_by = self._replaced_by(facts)
            if replaced_by:
                return str(Exclusion.REPLACED), replaced_by
        for one in self._others:
            if one.meets(facts):
                return one.exclusion, one.name
        return None

    def _replaced_by(self, facts: Facts) -> str:
        """What tells of this listening in its stead; '' where nothing does."""
        for one in self._backfills:
            if one.only_source == facts.source:
                return ""
            if one.meets(facts):
                return one.name
        return f"{facts.source} undone" if facts.source in self._filled_in else ""
