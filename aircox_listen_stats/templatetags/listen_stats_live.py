"""The live count, and the ear in the web player, in a template: ``{% load listen_stats_live %}``."""

from __future__ import annotations

from typing import Any

from django import template
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from aircox_listen_stats import conf

register = template.Library()

MODULE = "aircox_listen_stats/js/aircox-listeners.js"
PLAYER_MODULE = "aircox_listen_stats/js/player-events.min.js"


@register.simple_tag
def listeners_script() -> SafeString:
    """The script element of the widget, for the head of every page that can be the first one."""
    return format_html('<script type="module" src="{}"></script>', static(MODULE))


@register.simple_tag
def player_events_script() -> SafeString | str:
    """The script element that reports what the page's player plays, for the same heads; '' unless PLAYER is enabled."""
    if not conf.get().player.enabled:
        return ""
    tag = '<script type="module" src="{}" data-player-events="{}"></script>'
    return format_html(tag, static(PLAYER_MODULE), reverse("listen_stats:player_events"))


@register.inclusion_tag("aircox_listen_stats/_listeners.html")
def listeners_widget(station: Any, socket: str = "", **attributes: object) -> dict[str, object]:
    """The element for ``station``: aircox's station, or a slug.

    ``socket`` names another websocket URL, or ``none`` where there is no ASGI.
    Any other attribute of docs/live.md is written with an underscore:
    ``poll_seconds=30``, ``class_="count"``.
    """
    slug = str(getattr(station, "slug", station))
    return {
        "station_slug": slug,
        "json_url": reverse("listen_stats:live", kwargs={"station": slug}),
        "socket_url": socket,
        "attributes": [(name.strip("_").replace("_", "-"), value) for name, value in attributes.items()],
    }
