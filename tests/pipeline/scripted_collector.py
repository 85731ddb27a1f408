"""A collector in a process of its own, on the test's database, that works through a script and ends.

    python -m tests.pipeline.scripted_collector SEED [FUNCTION:CALL]

It kills itself, as ``kill -9`` does, inside the given call of the given
function. "active" and "done" on stdout tell how far it is.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any


def main(seed: int, deadly: str | None) -> None:
    import django

    django.setup()
    from django.conf import settings

    from aircox_listen_stats import conf
    from tests.pipeline.conftest import KILLED_SETTINGS, at

    settings.AIRCOX_LISTEN_STATS = KILLED_SETTINGS
    conf.forget(setting=conf.NAME)
    if deadly:
        arm(*deadly.split(":"))

    from aircox_listen_stats.onair import aircox
    from aircox_listen_stats.pipeline import ingest, rebuild
    from aircox_listen_stats.pipeline.collect import Collector
    from tests.pipeline.scripted import ScriptedSource
    from tests.pipeline.test_ingest import scripted

    ingest.LISTED_AT_ONCE = 2  # so that it is killed between the pieces of a list, too
    source = ScriptedSource("ice", scripted(seed))
    collector = Collector(sources={"ice": source}, onair=aircox.log())
    told = False
    for second in range(10_000):
        collector.step(now_ms=at(2000 + second))
        if collector.is_active and not told:
            print("active", flush=True)
            told = True
        if collector.is_active and (collector.ears["ice"].cursor or {}).get("told") == len(source.script):
            break
    else:
        raise SystemExit("The script did not come to its end.")
    collector.close()
    rebuild.rebuild(None, at(-3600), at(3600), now_ms=at(4 * 3600))
    print("done", flush=True)


def arm(path: str, call: str) -> None:
    """Makes the given call of ``module.function`` in the pipeline the last thing that this process does."""
    module_name, _, name = path.rpartition(".")
    module: Any = importlib.import_module(f"aircox_listen_stats.pipeline.{module_name}")
    real = getattr(module, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = real(*args, **kwargs)
        if calls == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, deadly)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
