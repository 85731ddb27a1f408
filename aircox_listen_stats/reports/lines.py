"""Diffusions as lines of a table: each with its figures, in one query however many there are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..fields import from_ms
from ..models import Airing, Audience
from . import rows
from .figures import MS_PER_MINUTE, Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionLine:
    """One diffusion. ``figures`` is None where they are not computed yet."""

    airing_id: int
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


def read_line(airing_id: int, rule_set: str) -> DiffusionLine:
    """The line of one diffusion, which must exist."""
    (row,) = select(rule_set, "a.id = %s", [airing_id])
    return line_of(row)


LINE_COLUMNS = (
    "id",
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
        airing_id, program_id, program_title, diffusion_id, title, started_ms, ended_ms,
        start_basis, end_basis, is_live, is_running, initial_id, episode_id, *figures,
    ) = row  # fmt: skip
    return DiffusionLine(
        airing_id=airing_id,
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
