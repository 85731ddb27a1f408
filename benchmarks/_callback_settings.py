"""The example station as the callback benchmark serves it, ours and the peer: on the benchmark's own database."""

from __future__ import annotations

import os

from benchmarks._database_settings import *  # noqa: F403
from benchmarks._database_settings import AIRCOX_LISTEN_STATS, DATABASES, KIND

TOKEN = "of-the-benchmark"

AIRCOX_LISTEN_STATS = {
    **AIRCOX_LISTEN_STATS,
    "CALLBACK_TOKENS": {"ice": TOKEN},
    "JOURNAL_FOLDER": os.environ["BENCHMARK_JOURNALS"],
    "JOURNAL_FSYNC": os.environ.get("BENCHMARK_FSYNC") == "1",
}

if os.environ.get("BENCHMARK_PEER"):
    # The peer at its best: no middleware, and each of its threads keeps its connection.
    MIDDLEWARE: list[str] = []
    ROOT_URLCONF = "benchmarks._callback_peer"
    DATABASES["default"]["CONN_MAX_AGE"] = None
    if KIND == "sqlite":
        DATABASES["default"].setdefault("OPTIONS", {})["timeout"] = 20
