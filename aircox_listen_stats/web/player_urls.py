"""Where web players tell of themselves; see docs/sources/player_events.md."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import openapi_player, player_events

urlpatterns: list[URLPattern] = [
    path(openapi_player.PLAYERS.lstrip("/"), player_events.player_events, name="player_events"),
]
