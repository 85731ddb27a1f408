"""Runs every benchmark of benchmarks/ in its quick form, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
START = '__name__ == "__main__"'
"""A module with this line is a benchmark; the others belong to one."""


def benchmarks() -> list[str]:
    """The names of the modules that can be run, in order."""
    modules = sorted(FOLDER.glob("*.py"))
    return [one.stem for one in modules if START in one.read_text() and not one.stem.startswith("_")]


def main(arguments: list[str]) -> int:
    """The number of benchmarks that failed; names among the arguments choose some."""
    known = benchmarks()
    chosen = [one for one in arguments if not one.startswith("-")] or known
    unknown = [one for one in chosen if one not in known]
    if unknown or not chosen:
        sys.exit(f"Unknown benchmark {', '.join(unknown) or '(none)'}. There are: {', '.join(known) or 'none'}.")
    options = [one for one in arguments if one.startswith("-")] or ["--quick"]
    failed = []
    for name in chosen:
        print(f"\n── {name} ──", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, check=False)
        if done.returncode:
            failed.append(name)
    print(
        f"\n{len(chosen) - len(failed)} of {len(chosen)} benchmarks ran well."
        + (f" Failed: {failed}" if failed else "")
    )
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
