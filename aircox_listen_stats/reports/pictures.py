"""Curves as PNG pictures, for e-mail: most programs that show one draw no SVG and run no script.

They hold figures and times and no word, so that they suit any language.
Pillow draws them, which the extra ``letters`` brings; without it there are none.
"""

from __future__ import annotations

import importlib.util
import io
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .diffusion import DiffusionAudience
from .figures import MS_PER_MINUTE
from .scales import round_scale, round_times

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

WIDTH, CURVE_HEIGHT, RETENTION_HEIGHT = 480, 170, 104
"""Pixels of the letter: between those of a phone and of a letter on a desktop: it is shown on both."""

SHARP = 2
"""Pixels of the picture for each of these: screens have so many."""

SMOOTH = 2
"""Drawn so many times larger still and then made smaller: Pillow's own lines have steps."""

GUTTER, HEADROOM, FOOTROOM = 46, 10, 26
"""Pixels of the letter left of the drawing, above and under it."""

FONT_SIZE = 13
HATCH_APART = 7
"""Pixels of the letter between the lines over what was not observed."""

GROUND, ACCENT, SOFT, GRID, MUTED, HATCH = "#ffffff", "#3a53b8", "#dfe5fa", "#dde1e8", "#5d6675", "#b4bac6"
"""The colours of the pages on a light ground (pages.css)."""

Point = tuple[float, float]


def can_draw() -> bool:
    """Is Pillow there?"""
    return importlib.util.find_spec("PIL") is not None


def audience_picture(report: DiffusionAudience) -> bytes | None:
    """The mean audience of each minute, hatched where nothing is known; None without Pillow, or without a curve."""
    if not report.curve or not can_draw():
        return None
    top, step = round_scale(max((mean for mean in report.curve if mean is not None), default=0))
    sheet = _Sheet.of(report, CURVE_HEIGHT)
    sheet.grid({value / top: f"{value}" for value in range(0, top + 1, step)})
    sheet.steps([None if mean is None else mean / top for mean in report.curve], is_filled=True)
    return sheet.png()


def retention_picture(report: DiffusionAudience) -> bytes | None:
    """Who is still there of those at the start, by the minute; None without Pillow, or where nobody was."""
    if not report.retention or not can_draw():
        return None
    sheet = _Sheet.of(report, RETENTION_HEIGHT)
    sheet.grid({0: "0 %", 0.5: "", 1: "100 %"})
    sheet.steps(report.retention, is_filled=False)
    return sheet.png()


@dataclass(slots=True)
class _Sheet:
    """A drawing in the making. Heights are shares of it from below, times are minutes from its start."""

    report: DiffusionAudience
    height: int
    minutes: float
    canvas: Image.Image
    draw: ImageDraw.ImageDraw
    words: list[tuple[Point, str, str]]  # where, what, and by which corner it hangs

    @classmethod
    def of(cls, report: DiffusionAudience, height: int) -> _Sheet:
        from PIL import Image, ImageDraw

        scale = SHARP * SMOOTH
        canvas = Image.new("RGB", (WIDTH * scale, height * scale), GROUND)
        minutes = (report.line.ended - report.line.started).total_seconds() * 1000 / MS_PER_MINUTE
        sheet = cls(report, height, minutes or 1, canvas, ImageDraw.Draw(canvas), [])
        sheet._times()
        return sheet

    def grid(self, labels: dict[float, str]) -> None:
        """A line across at each height, with its label."""
        for share, label in labels.items():
            y = self._y(share)
            self._line([(GUTTER, y), (WIDTH, y)], GRID, 1)
            self.words.append(((GUTTER - 6, y), label, "rm"))

    def steps(self, shares: Sequence[float | None], *, is_filled: bool) -> None:
        """A step for each minute, and hatching for each run of minutes of which nothing is known."""
        for is_known, run in groupby(enumerate(shares), key=lambda one: one[1] is not None):
            minutes = list(run)
            first, last = minutes[0][0], min(minutes[-1][0] + 1, self.minutes)
            if not is_known:
                self._hatch(self._x(first), self._x(last))
                continue
            outline = [
                (self._x(at), self._y(share or 0))
                for minute, share in minutes
                for at in (minute, min(minute + 1, last))
            ]
            if is_filled:
                ground = self._y(0)
                self.draw.polygon(self._large([(outline[0][0], ground), *outline, (outline[-1][0], ground)]), SOFT)
            self._line(outline, ACCENT, 2)

    def png(self) -> bytes:
        """The picture, with its words in."""
        from PIL import Image, ImageDraw, ImageFont

        small = self.canvas.resize((WIDTH * SHARP, self.height * SHARP), Image.Resampling.LANCZOS)
        pen, font = ImageDraw.Draw(small), ImageFont.load_default(FONT_SIZE * SHARP)
        for (x, y), word, corner in self.words:
            pen.text((x * SHARP, y * SHARP), word, MUTED, font, anchor=corner)
        held = io.BytesIO()
        small.quantize(64).save(held, "PNG", optimize=True)
        return held.getvalue()

    def _times(self) -> None:
        zone = zoneinfo.ZoneInfo(self.report.zone)
        line = self.report.line
        for at in round_times(line.started, line.ended):
            x = self._x((at - line.started).total_seconds() * 1000 / MS_PER_MINUTE)
            ground = self._y(0)
            self._line([(x, ground), (x, ground + 4)], GRID, 1)
            # At the very edge the middle of a word would lie outside.
            corner = "lt" if x < GUTTER + 14 else "rt" if x > WIDTH - 14 else "mt"
            self.words.append(((x, ground + 8), f"{at.astimezone(zone):%H:%M}", corner))

    def _hatch(self, left: float, right: float) -> None:
        top, ground = self._y(1), self._y(0)
        rise = ground - top
        x = left - rise
        while x < right:
            # From the ground upwards to the right, cut at the edges of the stretch.
            begin, end = max(x, left), min(x + rise, right)
            self._line([(begin, ground - (begin - x)), (end, ground - (end - x))], HATCH, 1)
            x += HATCH_APART

    def _x(self, minute: float) -> float:
        return GUTTER + (WIDTH - GUTTER) * min(minute / self.minutes, 1)

    def _y(self, share: float) -> float:
        return HEADROOM + (self.height - HEADROOM - FOOTROOM) * (1 - share)

    def _line(self, points: Sequence[Point], colour: str, width: int) -> None:
        self.draw.line(self._large(points), colour, width * SHARP * SMOOTH, joint="curve")

    def _large(self, points: Sequence[Point]) -> Any:
        return [(x * SHARP * SMOOTH, y * SHARP * SMOOTH) for x, y in points]
