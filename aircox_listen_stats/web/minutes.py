"""The minutes of a diffusion: as the interactive chart reads them, and as a table."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from ..fields import to_ms
from ..kernel.types import MS
from ..reports.diffusion import DiffusionAudience, UnderLine


def chart_figures(report: DiffusionAudience, *, top: int) -> dict[str, Any]:
    """Plain values for JSON: instants in seconds since 1970, one element of each list for each minute."""
    line = report.line
    return {
        "zone": report.zone,
        "start": _seconds(line.started),
        "end": _seconds(line.ended),
        "top": top,
        "curve": [None if mean is None else round(mean, 2) for mean in report.curve],
        "retention": [round(share, 4) for share in report.retention],
        "joined": report.flow and report.flow.joined,
        "left": report.flow and report.flow.left,
        "gaps": [[_seconds(gap.started), _seconds(gap.ended), gap.is_total] for gap in report.gaps],
        "to_come": report.to_come_from and _seconds(report.to_come_from),
        "under": [_band(one) for one in (*report.sounds, *report.tracks)],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteRow:
    """One row of the table beside the curve."""

    at: dt.datetime
    mean: float | None
    joined: int | None
    left: int | None
    retained: float | None
    there: float | None


def minute_rows(report: DiffusionAudience) -> list[MinuteRow]:
    """The curve as a table, one row for each minute."""
    flow = report.flow
    return [
        MinuteRow(
            at=report.line.started + dt.timedelta(minutes=minute),
            mean=mean,
            joined=flow.joined[minute] if flow and minute < len(flow.joined) else None,
            left=flow.left[minute] if flow and minute < len(flow.left) else None,
            retained=report.retention[minute] if minute < len(report.retention) else None,
            there=report.retention_of_all[minute] if minute < len(report.retention_of_all) else None,
        )
        for minute, mean in enumerate(report.curve)
    ]


def _band(line: UnderLine) -> dict[str, Any]:
    return {
        "id": line.airing_id,
        "layer": line.layer,
        "title": " — ".join(filter(None, (line.artist, line.title))),
        "start": _seconds(line.started),
        "end": _seconds(line.ended),
    }


def _seconds(instant: dt.datetime) -> float:
    return to_ms(instant) / MS
