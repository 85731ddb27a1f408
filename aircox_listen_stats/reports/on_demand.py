"""Listening on demand: how the recordings of an episode were played in the station's own web player."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..kernel.sections import retention
from ..kernel.types import MS
from ..models import RecordingPlay
from .figures import MS_PER_HOUR, MS_PER_MINUTE, is_hidden

SECONDS_PER_MINUTE = 60

MARKS = (0.25, 0.5, 0.75, 0.95)
"""Shares of a recording. The last few seconds are jingles and silence, which nobody is missed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingLine:
    """One recording, from its first play to its last.

    ``listening_hours`` count what was heard twice twice; ``retention[m]``, the
    share of plays that heard the first second of minute ``m``, and ``heard``,
    (mark, share that heard it) of each of MARKS, count it once. A play is one
    page that heard some of it, whoever does not count left out.
    """

    sound_id: int
    title: str
    length_minutes: float
    plays: int | None
    listening_hours: float | None
    heard: tuple[tuple[float, float], ...]
    retention: tuple[float, ...]
    first_play: dt.datetime
    last_play: dt.datetime

    def hiding_below(self, minimum: int) -> RecordingLine:
        """The line without what would tell how few played it."""
        if not is_hidden(self.plays, minimum):
            return self
        return replace(self, plays=None, listening_hours=None, heard=(), retention=())


def of_episode(episode_id: int | None) -> tuple[RecordingLine, ...]:
    """The recordings of an episode that were played, by number; one query, none without an episode."""
    if episode_id is None:
        return ()
    plays = (
        RecordingPlay.objects.filter(recording__episode_id=episode_id, exclusion="")
        .order_by("recording__sound_id", "started")
        .values_list(
            *("recording__sound_id", "recording__title", "recording__duration_ms"),
            *("started", "seen", "played_ms", "sections"),
        )
    )
    by_sound: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for sound_id, *play in plays:
        by_sound[sound_id].append(tuple(play))
    return tuple(_line(sound_id, found) for sound_id, found in by_sound.items())


def _line(sound_id: int, plays: Sequence[tuple[Any, ...]]) -> RecordingLine:
    title, duration_ms = plays[0][:2]
    sections = [play[5] for play in plays]
    # aircox tells no length of a file that it has not read: it is at least as long as it was heard.
    length_ms = duration_ms or max(end_ms for one in sections for _, end_ms in one)
    by_second = retention(sections, duration_ms=length_ms)
    return RecordingLine(
        sound_id=sound_id,
        title=title,
        length_minutes=length_ms / MS_PER_MINUTE,
        plays=len(plays),
        listening_hours=sum(play[4] for play in plays) / MS_PER_HOUR,
        heard=tuple((mark, float(by_second[int(mark * length_ms / MS)])) for mark in MARKS),
        retention=tuple(float(share) for share in by_second[::SECONDS_PER_MINUTE]),
        first_play=min(play[2] for play in plays),
        last_play=max(play[3] for play in plays),
    )
