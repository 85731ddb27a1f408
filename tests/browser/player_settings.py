"""The suite's settings, with a stream that web players alone count."""

import os

from tests.settings import *  # noqa: F403

MOUNT = "/radio.mp3"
ALLOWED_ORIGIN_VARIABLE = "LISTEN_STATS_TEST_ALLOWED_ORIGIN"

AIRCOX_LISTEN_STATS = {
    "SOURCES": {"web": {"backend": "player_events"}},
    "STREAMS": {"radio": {"source": "web", "mount": MOUNT}},
    "PLAYER": {"enabled": True, "allowed_origins": os.environ.get(ALLOWED_ORIGIN_VARIABLE, "").split()},
}
