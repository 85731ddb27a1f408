"""The suite's settings, with a stream that web players alone count."""

from tests.settings import *  # noqa: F403

MOUNT = "/radio.mp3"

AIRCOX_LISTEN_STATS = {
    "SOURCES": {"web": {"backend": "player_events"}},
    "STREAMS": {"radio": {"source": "web", "mount": MOUNT}},
    "PLAYER": {"enabled": True},
}
