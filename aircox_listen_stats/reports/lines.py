"""Diffusions as lines of a table: each with its figures, in one query however many there are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..fields import from_ms, to_ms
from ..models import Airing, Audience
from . import blurs, rows
from .blurs import Blurred, Reason
from .figures import MS_PER_MINUTE, Figures

_Line = TypeVar("_Line")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionLine:
    """One diffusion. ``figures`` is None where they are not computed yet."""

    airing_id: int
    station_id: int
    program_id: int | None
    program_title: str
    diffusion_id: int | None
    episode_id: int | None
    title: str
    started: dt.datetime
    ended: dt.datetime
    start_basis: str
    end_basis: str
    length_minutes: float
    is_live: bool
    is_running: bool
    is_rerun: bool
    figures: Figures | None

    @property
    def at_least_because(self) -> tuple[Reason, ...]:
        """Why listeners could not be told apart in some of it."""
        return self.figures.at_least_because if self.figures else ()


def read_line(airing_id: int, rule_set: str) -> DiffusionLine:
    """The line of one diffusion, which must exist."""
    (row,) = select(rule_set, "a.id = %s", [airing_id])
    return line_of(row)


LINE_COLUMNS = (
    "id",
    "station_id",
    "program_id",
    "program_title",
    "diffusion_id",
    "title",
    "started",
    "ended",
    "start_basis",
    "end_basis",
    "is_live",
    "is_running",
    "initial_id",
    "episode_id",
)
"""What a line takes from its airing, before the columns of its figures."""


def select(rule_set: str, rest: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    """Rows that :func:`line_of` reads, of the diffusions that ``rest`` of the statement asks for.

    By SQL: Django would spend several times the database's time on building and converting the same.
    """
    columns = [*(f'a."{name}"' for name in LINE_COLUMNS), *(f'f."{name}"' for name in Figures.COLUMNS)]
    return rows.fetch(
        f"SELECT {', '.join(columns)} FROM {rows.table(Airing)} a"
        f" LEFT JOIN {rows.table(Audience)} f ON f.airing_id = a.id AND f.rule_set = %s WHERE {rest}",
        [rule_set, *values],
    )


def line_of(row: Sequence[Any]) -> DiffusionLine:
    """The line that a row of :func:`select` tells."""
    (
        airing_id, station_id, program_id, program_title, diffusion_id, title, started_ms, ended_ms,
        start_basis, end_basis, is_live, is_running, initial_id, episode_id, *figures,
    ) = row  # fmt: skip
    return DiffusionLine(
        airing_id=airing_id,
        station_id=station_id,
        program_id=program_id,
        program_title=program_title,
        diffusion_id=diffusion_id,
        episode_id=episode_id,
        title=title,
        started=from_ms(started_ms),
        ended=from_ms(ended_ms),
        start_basis=start_basis,
        end_basis=end_basis,
        length_minutes=(ended_ms - started_ms) / MS_PER_MINUTE,
        is_live=bool(is_live),
        is_running=bool(is_running),
        is_rerun=initial_id is not None,
        figures=Figures.of(figures, started_ms, ended_ms),
    )


def marked(lines: Sequence[DiffusionLine], blurred: Blurred | None = None) -> list[DiffusionLine]:
    """The same lines, with the reasons why listeners could not be told apart in some of them.

    In one query, or in none where ``blurred``, of their station or of all, reaches as far as they do.
    """
    if lines and (blurred is None or not blurred.reaches(*_reach(lines))):
        blurred = blurs.read(*_reach(lines))
    if not blurred:
        return list(lines)
    starts, ends = [to_ms(line.started) for line in lines], [_told_until(line) for line in lines]
    because = blurred.each([line.station_id for line in lines], starts, ends)
    return [with_reasons(line, why) for line, why in zip(lines, because, strict=True)]


def with_reasons(line: _Line, because: tuple[Reason, ...]) -> _Line:
    """A line whose figures say why listeners could not be told apart."""
    figures: Figures | None = line.figures  # type: ignore[attr-defined]
    if figures is None or not because:
        return line
    return replace(line, figures=replace(figures, at_least_because=because))  # type: ignore[type-var]


def _reach(lines: Sequence[DiffusionLine]) -> tuple[int, int]:
    return min(to_ms(line.started) for line in lines), max(to_ms(line.ended) for line in lines)


def _told_until(line: DiffusionLine) -> int:
    """Of what is on air, the figures tell as far as they were computed."""
    return to_ms(min(line.ended, line.figures.computed) if line.figures else line.ended)
