"""What a ruling would do to figures, before anybody makes or revokes it. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..models import Airing, Ruling, Stream
from . import labels, rollup
from .ingest import run_together

__all__ = ["FiguresChange", "Preview", "preview"]

DAY_MS = 24 * 3600 * 1000

DAYS = 31
"""Figures are compared this far back from the newest session that is meant: each day is read as closing it would."""

SHOWN = ("listening_ms", "sessions", "listeners", "peak")


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresChange:
    """The figures of one diffusion as they are and as they would be, under the station's own rule-set."""

    airing: Airing
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def figures(self) -> list[tuple[str, Any, Any]]:
        """Name, before and after of each figure that differs; none where only the curve does."""
        return [(name, self.before[name], self.after[name]) for name in SHOWN if self.before[name] != self.after[name]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """``sessions`` would count or no longer count; ``changes`` by start. ``is_whole``: none is too old to be shown.

    So would ``plays`` of recordings, and ``player_sessions`` in the web player.
    """

    sessions: int
    plays: int
    player_sessions: int
    changes: tuple[FiguresChange, ...]
    is_whole: bool


def preview(ruling: Ruling, *, is_revoked: bool = False, now_ms: int) -> Preview:
    """What would change if ``ruling`` were made, or with ``is_revoked`` taken back. Raises RulingRefused."""
    if not is_revoked:
        labels.refuse_senseless(ruling)
    meant = labels.would_change(ruling, is_revoked=is_revoked)
    of_players = labels.players_would_change(ruling, is_revoked=is_revoked)
    since_ms = max((ended_ms for _, _, ended_ms in meant.values()), default=0) - DAYS * DAY_MS
    streams = {one.pk: one for one in Stream.objects.all()}
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for stream_id, started_ms, ended_ms in meant.values():
        stream = streams[stream_id]
        if ended_ms > since_ms:
            spans[stream.station_id].append((started_ms - stream.delay_ms, ended_ms - stream.delay_ms))
    found: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    for station_id, some in spans.items():
        for started_ms, ended_ms in _pieces(some, since_ms):
            differing = rollup.would_be(station_id, started_ms, ended_ms, relabelled=meant, now_ms=now_ms)
            found |= {airing_id: (before, after) for airing_id, before, after in differing}
    airings = Airing.objects.filter(pk__in=found).order_by("started", "pk")
    return Preview(
        sessions=len(meant),
        plays=of_players.plays,
        player_sessions=of_players.player_sessions,
        changes=tuple(
            FiguresChange(airing=one, before=_shown(found[one.pk][0]), after=_shown(found[one.pk][1]))
            for one in airings
        ),
        is_whole=all(started_ms >= since_ms for _, started_ms, _ in meant.values()),
    )


def _pieces(spans: list[tuple[int, int]], since_ms: int) -> list[tuple[int, int]]:
    return [
        (first_ms, min(first_ms + DAY_MS, ended_ms))
        for started_ms, ended_ms in run_together(spans)
        for first_ms in range(max(started_ms, since_ms), ended_ms, DAY_MS)
    ]


def _shown(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in SHOWN}
