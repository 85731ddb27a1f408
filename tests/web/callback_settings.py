"""Settings of a server that takes callbacks: the suite's, with one stream and the test's own journals."""

from __future__ import annotations

import os
from typing import Any

from tests.settings import *  # noqa: F403

TOKEN = "w0rd-of-the-tests"
PATH = f"/audience/callback/icecast/{TOKEN}/"

AIRCOX_LISTEN_STATS: dict[str, Any] = {
    "SOURCES": {"icecast": {"backend": "urlauth"}},
    "STREAMS": {"live": {"source": "icecast", "station": 1, "mount": "/live.mp3"}},
    "CALLBACK_TOKENS": {"icecast": TOKEN},
    "JOURNAL_FOLDER": os.environ.get("LISTEN_STATS_TEST_JOURNALS"),
}
