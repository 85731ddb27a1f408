"""Where the demo keeps its files, and the ports and passwords that it makes up for one run."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

__all__ = ["COUNTRIES", "MOUNTS", "folder", "free_port", "prepare", "settings"]

MOUNTS = {"radio-mp3": "/live.mp3", "radio-low": "/low.mp3"}
"""Stream and mount of the demo's station."""

PREFIX = "EXAMPLE_STATION_"

COUNTRIES = "countries.mmdb"
"""The country database that the demo writes into its folder."""


def folder() -> Path:
    """The demo's own folder, made at need: ``EXAMPLE_STATION_DIR``, else ``var/demo`` here."""
    path = Path(os.environ.get(PREFIX + "DIR", Path.cwd() / "var" / "demo")).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def free_port(wanted: int = 0) -> int:
    """``wanted`` where nobody listens on it, else a free port of the loopback interface."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("No free port on 127.0.0.1. Stop a server, then try again.")


def prepare(*, real_icecast: bool = False) -> None:
    """Fills the environment that ``settings()`` reads. Call it before Django reads its settings."""
    if real_icecast:
        from tests.parts.icecast import ADMIN_PASSWORD

        os.environ[PREFIX + "ICECAST_PASSWORD"] = ADMIN_PASSWORD
    made_up = {
        "DIR": str(folder()),
        "ICECAST_PORT": str(free_port(8010)),
        "ICECAST_PASSWORD": secrets.token_urlsafe(12),
        "CALLBACK_TOKEN": secrets.token_urlsafe(16),
        "PORT": str(free_port(8000)),
    }
    for name, value in made_up.items():
        os.environ.setdefault(PREFIX + name, value)
    os.environ.setdefault("TZ", "Europe/Brussels")


def settings() -> dict[str, object]:
    """AIRCOX_LISTEN_STATS of the example station; without an Icecast's port in the environment, empty."""
    port = os.environ.get(PREFIX + "ICECAST_PORT")
    if port is None:
        return {}
    return {
        "SOURCES": {
            "icecast": {
                "backend": "icecast",
                "url": f"http://127.0.0.1:{port}",
                "user": "admin",
                "password": os.environ.get(PREFIX + "ICECAST_PASSWORD", ""),
                "poll_seconds": 5,
            }
        },
        "STREAMS": {
            "radio-mp3": {"source": "icecast", "mount": MOUNTS["radio-mp3"], "title": "MP3 128 kbit/s"},
            "radio-low": {"source": "icecast", "mount": MOUNTS["radio-low"], "title": "MP3 64 kbit/s"},
        },
        "CALLBACK_TOKENS": {"icecast": os.environ.get(PREFIX + "CALLBACK_TOKEN", "")},
        "JOURNAL_FOLDER": str(folder() / "journals"),
        "COUNTRY_DATABASE": str(folder() / COUNTRIES),
        "MONITOR_HOOK": True,
        "LIVE": {"stale_seconds": 30},
        "PLAYER": {"enabled": True},
    }
