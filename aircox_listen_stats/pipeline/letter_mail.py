"""The producer's letter as an e-mail: text, HTML, pictures inside, and the way to stop them.

It is written in the station's language and on its clock, under its own
rule-set. What is hidden in exports is hidden here: a letter leaves the house.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from email.mime.image import MIMEImage
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.core.signing import BadSignature, Signer
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.formats import date_format
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _

from ..conf import Settings
from ..reports import pictures
from ..reports.baseline import Verdict
from ..reports.definitions import DEFINITIONS
from ..reports.diffusion import DiffusionAudience
from ..reports.figures import Figures
from ..reports.hiding import diffusion_hiding

TEMPLATES = "aircox_listen_stats/letter/"

MOST_TRACKS = 40
"""Of a night of music the page has the rest: Gmail cuts a letter at 102 kB."""

LINE_WIDTH = 76
"""Characters of a line of the plain text (RFC 5322 advises 78)."""

SALT = "aircox_listen_stats.letters.stop"

COMPARED = (Verdict.USUAL, Verdict.MORE, Verdict.LESS)

_TOKEN = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_BLANK_LINES = re.compile(r"\n{3,}")
_CLOCK = re.compile(r"[0-9]{2}:[0-9]{2} ")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """To whom a letter goes, about which program, and what it is called so that it is known again."""

    user_id: int
    program_id: int
    address: str
    number: str

    def __repr__(self) -> str:
        return f"Envelope(number={self.number!r})"


def letter(report: DiffusionAudience, envelope: Envelope, settings: Settings) -> EmailMultiAlternatives:
    """The letter about a diffusion that has figures, ready to be sent; the report is what its reader may see."""
    language = settings.letters.language or django_settings.LANGUAGE_CODE
    with translation.override(language), timezone.override(settings.zone):
        return _letter(diffusion_hiding(report, settings.minimum_cell), envelope, settings)


def stop_token(user_id: int, program_id: int) -> str:
    """What lets whoever has it stop the letters of one program to one user, and nothing else."""
    return Signer(salt=SALT, sep=".").sign(f"{user_id}-{program_id}")


def read_stop_token(token: str) -> tuple[int, int] | None:
    """The user and the program; None of what we did not sign."""
    try:
        found = _TOKEN.fullmatch(Signer(salt=SALT, sep=".").unsign(token))
    except BadSignature:
        return None
    return (int(found[1]), int(found[2])) if found else None


def _letter(report: DiffusionAudience, envelope: Envelope, settings: Settings) -> EmailMultiAlternatives:
    host = urlsplit(settings.letters.site).hostname or "localhost"
    drawn = {"audience": pictures.audience_picture(report), "retention": pictures.retention_picture(report)}
    names = {name: f"{name}.{envelope.number}@{host}" for name, png in drawn.items() if png}
    stop = _absolute(settings, "letters_stop", stop_token(envelope.user_id, envelope.program_id))
    subject = _subject(report)
    context = {
        **_context(report, settings),
        "page": _absolute(settings, "diffusion", report.line.airing_id),
        "stop": stop,
        "pictures": names,
        "subject": subject,
    }
    headers = {
        "Message-ID": f"<letter.{envelope.number}@{host}>",
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": f"<{stop}>",
    }
    if stop.startswith("https:"):  # RFC 8058 asks for it
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail = EmailMultiAlternatives(
        subject,
        _text(context),
        settings.letters.sender or django_settings.DEFAULT_FROM_EMAIL,
        [envelope.address],
        headers=headers,
    )
    whole = {"cell": f"{TEMPLATES}_cell.html", "row_break": mark_safe("</tr><tr>")}
    mail.attach_alternative(render_to_string(f"{TEMPLATES}letter.html", {**context, **whole}), "text/html")
    mail.mixed_subtype = "related"  # the pictures belong to the HTML
    for name, cid in names.items():
        mail.attach(_inline(drawn[name] or b"", name, cid))
    return mail


def _context(report: DiffusionAudience, settings: Settings) -> dict[str, Any]:
    figures = report.figures
    heard = [line for line in report.tracks if line.figures is not None]
    told = figures and (figures.peak, figures.inherited, figures.joined, figures.left, figures.kept)
    return {
        "report": report,
        "figures": figures,
        "rules": settings.rules(report.rule_set),
        "definitions": DEFINITIONS,
        "minimum": settings.minimum_cell,
        "tracks": heard[:MOST_TRACKS],
        "tracks_left_out": len(heard[MOST_TRACKS:]),
        "compared": report.baseline is not None and report.baseline.verdict in COMPARED,
        # A sentence of counts says all of them or is not said.
        "tells_all": figures is not None and (figures.average is None or None not in (told or ())),
    }


def _subject(report: DiffusionAudience) -> str:
    """Which program, when, and the figure that is asked for first. No figure where it is unknown."""
    figures = report.figures
    words = {
        "program": report.line.program_title or report.line.title or _("Untitled diffusion"),
        "date": date_format(timezone.localtime(report.line.started), "j F"),
        "average": "" if figures is None or figures.average is None else _average(figures),
    }
    if words["average"]:
        found = _("%(program)s, %(date)s: %(average)s listened on average") % words
    else:
        found = _("%(program)s, %(date)s") % words
    return _SPACES.sub(" ", found).strip()  # a title of two lines is no header


def _average(figures: Figures) -> str:
    """The average as the pages write it."""
    return render_to_string(f"{TEMPLATES}_average.txt", {"figures": figures}).strip()


def _text(context: Mapping[str, Any]) -> str:
    """The plain text. Its templates escape as HTML does, since sentences come from those of the pages."""
    told = html.unescape(render_to_string(f"{TEMPLATES}letter.txt", {**context, "cell": f"{TEMPLATES}_cell.txt"}))
    lines = (_wrapped(line) for line in told.splitlines())
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip() + "\n"


def _wrapped(line: str) -> str:
    if len(line) <= LINE_WIDTH or "://" in line:
        return line if line == "-- " else line.rstrip()
    hanging = " " * 6 if _CLOCK.match(line) else ""
    return textwrap.fill(line, LINE_WIDTH, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)


def _inline(png: bytes, name: str, cid: str) -> MIMEImage:
    image = MIMEImage(png, "png")
    image.add_header("Content-ID", f"<{cid}>")
    image.add_header("Content-Disposition", "inline", filename=f"{name}.png")
    return image


def _absolute(settings: Settings, name: str, argument: object) -> str:
    return settings.letters.site.rstrip("/") + reverse(f"listen_stats:{name}", args=[argument])
