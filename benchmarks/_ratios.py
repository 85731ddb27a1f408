"""How a benchmark says what it measured, what it must be, and whether it is."""

from __future__ import annotations


def line(
    name: str, value: float, *, must: float | None = None, goal: float | None = None, less_is_better: bool = False
) -> int:
    """1 where the must is missed, else 0; says so."""
    holds = must is None or (value <= must if less_is_better else value >= must)
    sign = "<=" if less_is_better else ">="
    wanted = [f"{word}={sign}{limit:g}" for word, limit in (("must", must), ("goal", goal)) if limit is not None]
    print(" ".join(["RATIO", name, f"{value:.2f}", *wanted, "ok" if holds else "MISSED"]), flush=True)
    return int(not holds)
