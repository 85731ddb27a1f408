"""A stand-in for aircox, used where no real aircox is importable.

It is written from a description of aircox's behaviour, not from its code.
"""

from __future__ import annotations

from example_project.standin.shapes import REAL, SHAPES, current_shape, install, installed_apps

__all__ = ["REAL", "SHAPES", "current_shape", "install", "installed_apps"]
