"""Where web players tell of themselves; see docs/sources/player.md."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import player_events

urlpatterns: list[URLPattern] = [
    path("api/v1/stats/player-events/", player_events.player_events, name="player_events"),
]
