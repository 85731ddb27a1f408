"""The example station as the ingest benchmark serves it, ours and the peer: on the benchmark's own database."""

from __future__ import annotations

import os
from typing import Any

import django

from benchmarks._database_settings import *  # noqa: F403
from benchmarks._database_settings import DATABASES, KIND

AIRCOX_LISTEN_STATS: dict[str, Any] = {
    "SOURCES": {"events": {"backend": "stream_events", "target_seconds": 4}},
    "STREAMS": {
        "live": {"source": "events", "station": 1, "mount": "/live.mp3"},
        "live-hls": {"source": "events", "station": 1, "mount": "/hls/live.m3u8"},
    },
    "INGEST": {"requests_per_minute": 1_000_000},
}

if KIND == "sqlite":
    DATABASES["default"].setdefault("OPTIONS", {})["timeout"] = 20
elif django.VERSION >= (5, 1):
    # As docs/operations.md recommends to whoever serves by ASGI.
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 2, "max_size": 4}}

if os.environ.get("BENCHMARK_PEER"):
    # The peer at its best: no middleware, and nobody is asked for a token.
    MIDDLEWARE: list[str] = []
    ROOT_URLCONF = "benchmarks._ingest_peer"
