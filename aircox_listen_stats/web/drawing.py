"""Charts as plain SVG numbers, so that pages have them without any script.

Everything is in percent of the drawing's width and height, from its upper
left corner, written with a point whatever the language: SVG knows no comma.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from ..reports.diffusion import DiffusionAudience, UnderLine
from ..reports.figures import KNOWN_COVERAGE
from ..reports.flow import MinuteFlow
from ..reports.lines import DiffusionLine
from ..reports.on_demand import RecordingLine
from ..reports.programs import Spark
from ..reports.scales import round_scale, round_times, time_step
from ..reports.scope_report import ScopeReport, Step

BAR_FILL = 0.72
"""Share of its place that a bar fills; the rest is air."""

WIDEST_BAR = 0.08
"""Share of the drawing that a bar fills at most: a single diffusion is no wall."""

SPARK_PLACES = 6
"""Places of a sparkline at least, so that one diffusion stays a thin bar."""

CURVE_WIDTH = 1000
"""Units across the curve's own coordinates; the browser stretches them."""

CURVE_HEIGHT = 100

MONTH_STEPS = (1, 2, 3, 6, 12)
"""Distances between the named months under a program's bars."""

MONTH_LABELS = 13
"""Named months at most: a year and the month in which it began."""

MONTH_ROOM = 0.03
"""Share of the drawing that the name of a month needs on a desktop; nearer to the right edge it stays away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A value of the scale and where it stands, measured from above."""

    value: int
    top: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """Where a bar stands; ``height`` is None where its average is unknown, or still to come."""

    left: str
    width: str
    place_left: str  # the whole place, to point at
    place_width: str
    top: str | None
    height: str | None
    peak_top: str | None
    is_hatched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar(_Standing):
    """One diffusion as a bar."""

    line: DiffusionLine


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBar(_Standing):
    """One day, or hour, of a report as a bar."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChart:
    """The days, or hours, of a report. ``keys`` are the kinds of bars that a legend must tell apart."""

    ticks: tuple[Tick, ...]
    bars: tuple[StepBar, ...]
    months: tuple[Month, ...]
    keys: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """Where the first diffusion of a month stands. Of the named ones a phone leaves out every second."""

    at: dt.datetime
    left: str
    is_named: bool
    is_second: bool

    @property
    def is_january(self) -> bool:
        """Whether the year is its better name."""
        return self.at.month == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Diffusions from the oldest to the newest. ``keys`` are the kinds of bars that a legend must tell apart."""

    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    months: tuple[Month, ...]
    keys: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A thin bar without a scale."""

    left: str
    width: str
    top: str
    height: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What was on air, under the curve."""

    line: UnderLine
    left: str
    width: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of time that is hatched: not, or (``is_total`` False) not wholly, observed."""

    left: str
    width: str
    is_total: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time under the curve."""

    at: dt.datetime
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowBars:
    """Tuned in above the middle, tuned out below it; ``most`` is the height of the scale on either side."""

    most: int
    joined: tuple[Mark, ...]
    left: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingChart:
    """How many of the plays of a recording heard each of its minutes, from its start; times are minutes in it."""

    line: str
    moments: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveChart:
    """The audience of a diffusion minute by minute, with everything that stands under it."""

    minutes: float
    ticks: tuple[Tick, ...]
    top_value: int
    area: str
    line: str
    moments: tuple[Moment, ...]
    gaps: tuple[Stretch, ...]
    tracks: tuple[Band, ...]
    sounds: tuple[Band, ...]
    flow: FlowBars | None
    to_come: Stretch | None  # of what is on air now


def scale(highest: float) -> tuple[int, tuple[Tick, ...]]:
    """The top of a scale that holds ``highest``, and its ticks from zero: whole and round numbers."""
    top, step = round_scale(highest)
    return top, tuple(Tick(value=value, top=percent(1 - value / top)) for value in range(0, top + 1, step))


def bars(lines: Iterable[DiffusionLine], zone: dt.tzinfo) -> BarChart:
    """The program's diffusions, given from the newest to the oldest; months are those of ``zone``."""
    oldest_first = list(lines)[::-1]
    highest = max((line.figures.peak or 0 for line in oldest_first if line.figures), default=0)
    top, ticks = scale(highest)
    place = 1 / max(len(oldest_first), 1)
    drawn = tuple(_bar(line, number * place, place, top) for number, line in enumerate(oldest_first))
    return BarChart(
        ticks=ticks,
        bars=drawn,
        months=tuple(_months([line.started.astimezone(zone) for line in oldest_first], place)),
        keys=frozenset(key for bar in drawn for key in _kinds(bar)),
    )


def step_bars(made: ScopeReport, zone: dt.tzinfo) -> StepChart:
    """The steps of a report in the order of time; months are those of ``zone``."""
    highest = max((step.figures.peak or 0 for step in made.steps if step.figures), default=0)
    top, ticks = scale(highest)
    place = 1 / max(len(made.steps), 1)
    drawn = tuple(_step_bar(step, number * place, place, top) for number, step in enumerate(made.steps))
    return StepChart(
        ticks=ticks,
        bars=drawn,
        months=tuple(_months([step.started.astimezone(zone) for step in made.steps], place)),
        keys=frozenset(key for bar in drawn for key in _step_kinds(bar)),
    )


def sparkline(sparks: Sequence[Spark]) -> tuple[Mark, ...]:
    """Thin bars of the averages, the highest filling the height; nothing for what is unknown."""
    highest = max((spark.average or 0 for spark in sparks), default=0) or 1
    place = 1 / max(len(sparks), SPARK_PLACES)
    return tuple(
        _mark(number * place, place * BAR_FILL, 1 - spark.average / highest, spark.average / highest)
        for number, spark in enumerate(sparks)
        if spark.average is not None
    )


def strip(
    spans: Iterable[tuple[dt.datetime, dt.datetime]], started: dt.datetime, ended: dt.datetime
) -> tuple[Mark, ...]:
    """Stretches of ``[started, ended)`` as filled parts of a strip."""
    whole = ended - started
    return tuple(_mark((left - started) / whole, (right - left) / whole, 0, 1) for left, right in spans)


def curve(report: DiffusionAudience) -> CurveChart:
    """The drawing of a diffusion."""
    started, ended = report.line.started, report.line.ended
    length = (ended - started) / dt.timedelta(minutes=1)
    highest = max((mean for mean in report.curve if mean is not None), default=0)
    top, ticks = scale(highest)
    runs = list(_runs(report.curve, length, top))
    return CurveChart(
        minutes=length,
        ticks=ticks,
        top_value=top,
        area=" ".join(f"M{run[0][0]} {CURVE_HEIGHT} {_steps(run)} V{CURVE_HEIGHT} Z" for run in runs),
        line=" ".join(f"M{run[0][0]} {run[0][1]} {_steps(run)}" for run in runs),
        moments=tuple(_moments(started, ended)),
        gaps=tuple(
            Stretch(left=left, width=width, is_total=gap.is_total)
            for gap in report.gaps
            for left, width in [_within(gap.started, gap.ended, started, ended)]
        ),
        tracks=tuple(_bands(report.tracks, started, ended)),
        sounds=tuple(_bands(report.sounds, started, ended)),
        flow=report.flow and _flow_bars(report.flow, length),
        to_come=_to_come(report),
    )


def retention_line(shares: Sequence[float | None], minutes: float) -> str:
    """The path of shares of one by the minute, across a drawing of so many; empty where none is known."""
    runs = _runs(shares, minutes, 1)
    return " ".join(f"M{run[0][0]} {run[0][1]} {_steps(run)}" for run in runs)


def recording_chart(line: RecordingLine) -> RecordingChart:
    """The drawing of a recording's plays."""
    step = time_step(line.length_minutes)
    return RecordingChart(
        line=retention_line(line.retention, line.length_minutes),
        moments=tuple(
            (minute, percent(minute / line.length_minutes)) for minute in range(0, int(line.length_minutes), step)
        ),
    )


def percent(part: float) -> str:
    """``part`` of one as SVG writes it: ``12.5%``."""
    return f"{part * 100:.3f}".rstrip("0").rstrip(".") + "%"


def _bar(line: DiffusionLine, left: float, place: float, top: int) -> Bar:
    mean = line.figures.average if line.figures else None
    peak = line.figures.peak if line.figures else None
    return Bar(
        line=line,
        is_hatched=mean is None or (line.figures is not None and line.figures.coverage < KNOWN_COVERAGE),
        **_geometry(left, place, mean, peak, top),
    )


def _step_bar(step: Step, left: float, place: float, top: int) -> StepBar:
    figures = step.figures
    mean = figures.average if figures else None
    peak = figures.peak if figures else None
    return StepBar(
        step=step,
        is_hatched=figures is not None and (figures.coverage or 0) < KNOWN_COVERAGE,
        **_geometry(left, place, mean, peak, top),
    )


def _geometry(left: float, place: float, mean: float | None, peak: int | None, top: int) -> dict[str, Any]:
    """Where a bar stands in its place, and how high: what all bars have."""
    width = min(place * BAR_FILL, WIDEST_BAR)
    return {
        "left": percent(left + (place - width) / 2),
        "width": percent(width),
        "place_left": percent(left),
        "place_width": percent(place),
        "top": None if mean is None else percent(1 - mean / top),
        "height": None if mean is None else percent(mean / top),
        "peak_top": None if peak is None or mean is None else percent(1 - peak / top),
    }


def _step_kinds(bar: StepBar) -> Iterable[str]:
    if bar.height is not None and bar.step.figures and not bar.step.figures.settled:
        yield "provisional"
    if bar.is_hatched:
        yield "unknown"


def _kinds(bar: Bar) -> Iterable[str]:
    if bar.line.is_rerun:
        yield "rerun"
    if bar.line.figures and not bar.line.figures.settled:
        yield "provisional"
    if bar.is_hatched:
        yield "unknown"


def _months(starts: Sequence[dt.datetime], place: float) -> Iterable[Month]:
    """The first diffusion of each month but the one that the drawing begins in."""
    begun = [
        (number, at)
        for number, (before, at) in enumerate(pairwise(starts), start=1)
        if (before.year, before.month) != (at.year, at.month)
    ]
    step = next((one for one in MONTH_STEPS if len(begun) / one <= MONTH_LABELS), MONTH_STEPS[-1])
    for number, at in begun:
        left = number * place
        yield Month(
            at=at,
            left=percent(left),
            is_named=(at.month - 1) % step == 0 and left <= 1 - MONTH_ROOM,
            is_second=(at.month - 1) // step % 2 == 1,
        )


def _mark(left: float, width: float, top: float, height: float) -> Mark:
    return Mark(left=percent(left), width=percent(width), top=percent(top), height=percent(height))


def _within(left: dt.datetime, right: dt.datetime, started: dt.datetime, ended: dt.datetime) -> tuple[str, str]:
    """Left edge and width of what lies inside the drawing."""
    whole = (ended - started) or dt.timedelta(milliseconds=1)
    first, last = max(left, started), min(right, ended)
    return percent((first - started) / whole), percent(max(last - first, dt.timedelta()) / whole)


def _bands(lines: Iterable[UnderLine], started: dt.datetime, ended: dt.datetime) -> Iterable[Band]:
    for line in lines:
        left, width = _within(line.started, line.ended, started, ended)
        yield Band(line=line, left=left, width=width)


def _runs(means: Sequence[float | None], length_minutes: float, top: int) -> Iterable[list[tuple[float, float, float]]]:
    """Stretches without a gap as ``(left, height from above, right)`` of each minute."""
    across = CURVE_WIDTH / (length_minutes or 1)
    for known, minutes in groupby(enumerate(means), key=lambda one: one[1] is not None):
        if known:
            yield [
                (
                    round(minute * across, 2),
                    round(CURVE_HEIGHT * (1 - (mean or 0) / top), 2),
                    round(min(minute + 1, length_minutes) * across, 2),
                )
                for minute, mean in minutes
            ]


def _steps(run: Sequence[tuple[float, float, float]]) -> str:
    return " ".join(f"V{height} H{right}" for _, height, right in run)


def _moments(started: dt.datetime, ended: dt.datetime) -> Iterable[Moment]:
    return (Moment(at=at, left=percent((at - started) / (ended - started))) for at in round_times(started, ended))


def _to_come(report: DiffusionAudience) -> Stretch | None:
    """What the curve of a diffusion that is on air has before it."""
    line = report.line
    if report.to_come_from is None:
        return None
    left, width = _within(report.to_come_from, line.ended, line.started, line.ended)
    return Stretch(left=left, width=width)


def _flow_bars(flow: MinuteFlow, length_minutes: float) -> FlowBars:
    most = max(count or 1 for count in (*flow.joined, *flow.left, 1))
    place = 1 / (length_minutes or 1)

    def marks(counts: Sequence[int | None], *, is_up: bool) -> tuple[Mark, ...]:
        return tuple(
            _mark(
                (minute + (1 - BAR_FILL) / 2) * place,
                place * BAR_FILL,
                0.5 - count / most / 2 if is_up else 0.5,
                count / most / 2,
            )
            for minute, count in enumerate(counts)
            if count
        )

    return FlowBars(most=most, joined=marks(flow.joined, is_up=True), left=marks(flow.left, is_up=False))
