"""Compiles the translations (.po to .mo) without the gettext programs."""

from __future__ import annotations

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent
LOCALE_FOLDERS = (
    ROOT / "aircox_listen_stats" / "locale",
    ROOT / "example_project" / "locale",
)


def compile_all() -> list[Path]:
    """The .mo files that were written: those older than their .po, or missing."""
    written = []
    for folder in LOCALE_FOLDERS:
        for source in sorted(folder.glob("*/LC_MESSAGES/*.po")):
            target = source.with_suffix(".mo")
            if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
                continue
            with source.open("rb") as stream:
                catalog = read_po(stream, locale=source.parent.parent.name)
            with target.open("wb") as stream:
                write_mo(stream, catalog)
            written.append(target)
    return written


if __name__ == "__main__":
    for path in compile_all():
        print(f"compiled {path.relative_to(ROOT)}")
