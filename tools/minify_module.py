"""Writes what pages load of the player's module, out of the file beside it that people read.

The small file is kept in git, so that neither a build nor an installation needs
the minifier (terser, in the version of package-lock.json); a test makes it anew
and compares.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools import stage_static
from tools.stage_static import ROOT, StagingError

SOURCE = ROOT / "aircox_listen_stats" / "static" / "aircox_listen_stats" / "js" / "player-events.js"
SERVED = SOURCE.with_suffix(".min.js")
TERSER = ROOT / "node_modules" / "terser" / "bin" / "terser"
PREAMBLE = f"// GPL-3.0-or-later; made of {SOURCE.name}"
"""Where to read it, for whoever meets the small file alone."""


def minified(source: Path = SOURCE) -> str:
    """The small form of ``source``, the same one each time."""
    if not TERSER.is_file():
        raise StagingError(f"terser was not found at {TERSER.relative_to(ROOT)}. Run make setup, which installs it.")
    options = ["--module", "--ecma", "2020", "--compress", "--mangle"]
    command = [str(stage_static.node()), str(TERSER), str(source), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StagingError(f"terser did not read {source.name}: {done.stderr.strip()}")
    return f"{PREAMBLE}\n{done.stdout.strip()}\n"


if __name__ == "__main__":
    try:
        SERVED.write_text(minified())
        print(f"{SERVED.relative_to(ROOT)}: {SERVED.stat().st_size} bytes")
    except StagingError as error:
        sys.exit(str(error))
