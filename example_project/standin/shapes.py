"""Which aircox is on the path: a real one, or the stand-in in the shape of 1.0 or of 0.9."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

REAL = "real"
SHAPES = ("1.0", "0.9")
SHAPE_VARIABLE = "AIRCOX_STANDIN_SHAPE"

_HERE = Path(__file__).resolve().parent
_FOLDERS = {"1.0": _HERE / "shape_1_0", "0.9": _HERE / "shape_0_9"}
_BOTH = _HERE / "both"

_AIRCOX_APPS = (
    "aircox.apps.AircoxConfig",
    "aircox.apps.AircoxAdminConfig",
    "aircox_streamer.apps.AircoxStreamerConfig",
)
# What a real aircox asks its instance to install beside it.
_REAL_NEEDS = (
    "rest_framework",
    "django_filters",
    "content_editor",
    "ckeditor",
    "ckeditor_uploader",
    "easy_thumbnails",
    "filer",
    "taggit",
    "adminsortable2",
    "honeypot",
)

_installed: str | None = None


def install() -> str:
    """`real` when somebody else's aircox is importable, else the shape of the stand-in put on the path.

    The stand-in goes to the end of `sys.path`, so that it never hides a real aircox. Its shape is
    what the environment variable AIRCOX_STANDIN_SHAPE says, 1.0 when it says nothing, and stays
    for the life of the interpreter.
    """
    global _installed
    if _installed is None:
        _installed = REAL if _real_is_importable() else _put_on_path(_asked_shape())
    return _installed


def current_shape() -> str:
    """`real`, `1.0` or `0.9`, as `install()` answered."""
    if _installed is None:
        raise RuntimeError(
            "No aircox was chosen yet. Call example_project.standin.install() at the top of the "
            "settings module, before INSTALLED_APPS."
        )
    return _installed


def installed_apps() -> list[str]:
    """Entries for INSTALLED_APPS: aircox's three, then what a real one needs beside it."""
    if current_shape() != REAL:
        return list(_AIRCOX_APPS)
    return [*_AIRCOX_APPS, *(name for name in _REAL_NEEDS if find_spec(name) is not None)]


def _real_is_importable() -> bool:
    spec = find_spec("aircox")
    # A folder without __init__.py also has a spec, but no origin.
    return spec is not None and spec.origin is not None and _HERE not in Path(spec.origin).parents


def _asked_shape() -> str:
    shape = os.environ.get(SHAPE_VARIABLE) or SHAPES[0]
    if shape not in SHAPES:
        raise ValueError(f"Unknown shape {shape!r} in {SHAPE_VARIABLE}. Known: {', '.join(SHAPES)}. Unset it for 1.0.")
    return shape


def _put_on_path(shape: str) -> str:
    for folder in (_BOTH, _FOLDERS[shape]):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return shape
