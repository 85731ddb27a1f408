"""Debian's Chromium, driven by Playwright, with a new profile and no calls to its maker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tools import parts

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium's sandbox refuses root, and containers refuse the sandbox
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@contextmanager
def browser() -> Iterator[Browser]:
    """A running browser. Playwright gives each launch its own user-data-dir and removes it."""
    from playwright.sync_api import sync_playwright

    program = parts.find("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(program), args=list(FLAGS))
        try:
            yield running
        finally:
            running.close()
