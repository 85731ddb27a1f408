"""axe-core: what stands in the way of people who use a keyboard, a screen reader, or tired eyes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

ENGINE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""Levels A and AA of WCAG 2.2, and axe's own advice: headings in order, one main, everything in a landmark."""


def faults(page: Page) -> list[str]:
    """One line for each place of ``page``, as it stands now, that breaks a rule; empty where none does."""
    if not ENGINE.exists():
        raise FileNotFoundError(f"There is no {ENGINE}. Run make setup: it fetches the npm packages.")
    # Evaluated by the browser's debugger: the page's own policy would let no such script in.
    page.evaluate(ENGINE.read_text())
    found = page.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", list(RULES))
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:160]} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
