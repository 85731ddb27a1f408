"""How a benchmark says what it measured, what it must be, and whether it is."""

from __future__ import annotations


def line(name: str, value: float, *, must: float, goal: float, less_is_better: bool = False) -> int:
    """1 where the must is missed, else 0; says so."""
    holds = value <= must if less_is_better else value >= must
    sign = "<=" if less_is_better else ">="
    print(f"RATIO {name} {value:.2f} must={sign}{must:g} goal={sign}{goal:g} {'ok' if holds else 'MISSED'}", flush=True)
    return int(not holds)
