"""What the tables by country, app and referrer call things."""

from __future__ import annotations

from collections.abc import Mapping

from django import template
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from aircox_listen_stats.models import DayShare
from aircox_listen_stats.reports.shares import ShareKind, ShareLine, ShareTable

register = template.Library()

TITLES: Mapping[ShareKind, Promise] = {
    ShareKind.COUNTRY: _("Countries"),
    ShareKind.APP: _("Apps and players"),
    ShareKind.REFERRER: _("Pages that play the stream"),
}
COLUMNS: Mapping[ShareKind, Promise] = {
    ShareKind.COUNTRY: _("Country"),
    ShareKind.APP: _("App"),
    ShareKind.REFERRER: _("Site"),
}
SILENCES: Mapping[ShareKind, Promise] = {
    ShareKind.COUNTRY: _("Of nobody the country is known. A technician can name a country file in the settings."),
    ShareKind.APP: _("Of nobody the app is known."),
    ShareKind.REFERRER: _("No source told which page played the stream."),
}
NOT_KEPT = _("Not known: neither these days nor their sessions are kept apart by it, or there are too many of them.")
NO_VALUES: Mapping[str, Promise] = {
    DayShare.UNKNOWN: _("unknown"),
    DayShare.NONE: _("no page named"),
    DayShare.OTHER: _("all others"),
}


@register.filter
def shares_title(table: ShareTable) -> str:
    return str(TITLES[table.kind])


@register.filter
def shares_of(table: ShareTable) -> str:
    """What a line is of."""
    return str(COLUMNS[table.kind])


@register.filter
def shares_silence(table: ShareTable) -> str:
    """Why there is no table."""
    if table.lines is None:
        return str(NOT_KEPT)
    return str(SILENCES[table.kind])


@register.filter
def share_value(line: ShareLine, kind: ShareKind) -> SafeString:
    """The value as it is shown. A country is its code, which the browser replaces by its name."""
    if line.value in NO_VALUES:
        return format_html('<span class="ls-basis">{}</span>', NO_VALUES[line.value])
    if kind is ShareKind.COUNTRY:
        code = '<listen-stats-country data-language="{}">{}</listen-stats-country>'
        return format_html(code, get_language() or "en", line.value)
    return format_html("<bdi>{}</bdi>", line.value)
