"""The app configuration that an instance lists in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class AircoxStreamerConfig(AppConfig):
    name = "aircox_streamer"
    verbose_name = "Aircox Streamer"
