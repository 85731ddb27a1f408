"""Runs Django's management commands on the example station: `python -m example_project <command>`."""

from __future__ import annotations

import sys

from example_project.demo import environment
from example_project.manage import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["demo"]:
        environment.prepare(real_icecast="--icecast" in sys.argv)
    main()
