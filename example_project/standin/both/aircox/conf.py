"""aircox's settings with their defaults, read from Django's at each use."""

from __future__ import annotations

import os

from django.conf import settings


def programs_dir() -> str:
    """Folder of the programs' sounds, inside MEDIA_ROOT."""
    return getattr(settings, "AIRCOX_PROGRAMS_DIR", os.path.join(settings.MEDIA_ROOT, "programs"))


def stations_dir() -> str:
    """Folder that holds each station's script, socket and playlists."""
    return getattr(settings, "AIRCOX_CONTROLLERS_WORKING_DIR", os.path.join(os.getcwd(), "stations"))
