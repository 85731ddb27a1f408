#!/usr/bin/env python
"""Runs Django's management commands on the example station."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Hands the command line to Django, whatever folder it was started from."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line([Path(sys.argv[0]).name, *sys.argv[1:]])


if __name__ == "__main__":
    # Started as a file, Python puts this folder on the path, not the one that holds the package.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    main()
