"""Runs Django's management commands on the example station: `python -m example_project <command>`."""

from __future__ import annotations

from example_project.manage import main

if __name__ == "__main__":
    main()
