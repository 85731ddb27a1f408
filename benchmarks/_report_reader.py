"""Opens a page of a report in a process of its own, as a technician's browser would, and tells seconds and memory.

    python -m benchmarks._report_reader ADDRESS TIMES NOW_MS

The process has shown the report of a single day before, so that all code is read: what grows then is the report's own.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

KB = 1024
SMALL = "/audience/report/?from={day}&to={day}"


def main(address: str, times: int, now_ms: int) -> None:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.test import Client
    from django.utils import timezone

    from aircox_listen_stats.fields import from_ms

    now = from_ms(now_ms)
    timezone.now = lambda: now  # the clock of the pages stands at the end of what was made
    visitor = Client()
    visitor.force_login(User.objects.get_or_create(username="technician", is_staff=True, is_superuser=True)[0])
    day = timezone.localtime(now).date()
    _read(visitor, SMALL.format(day=day))
    before_kb = _resident_kb("VmRSS")
    taken, cpu, told = [], [], {}
    for _ in range(times):
        began, worked = time.perf_counter(), time.process_time()
        told = _read(visitor, address)
        taken.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
    peak_kb = _resident_kb("VmHWM")  # getrusage's would be the parent's, where that had more
    print(
        json.dumps(
            {
                **told,
                "first_s": taken[0],
                "median_s": statistics.median(taken),
                "cpu_s": statistics.median(cpu),
                "before_mb": before_kb / KB,
                "peak_mb": peak_kb / KB,
            }
        )
    )


def _read(visitor: Any, address: str) -> dict[str, int]:
    """The whole answer, a piece at a time: how many bytes and lines it has."""
    response = visitor.get(address)
    assert response.status_code == 200, f"{address} answered {response.status_code}"
    size = lines = 0
    for piece in response.streaming_content if response.streaming else [response.content]:
        size += len(piece)
        lines += piece.count(b"\n")
    response.close()
    return {"bytes": size, "lines": lines}


def _resident_kb(what: str) -> int:
    """What is resident now (VmRSS), or was at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith(f"{what}:"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
