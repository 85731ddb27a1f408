"""The same figures from a grid of seconds: slow, plain, and written apart from the engine.

Times are whole seconds from 0 to ``length``. A told session is
``(listener, parts, is_open)``; element ``t`` of its row says whether it was
heard during ``[t, t + 1)``. Everything is counted by looking at every second.
"""

from __future__ import annotations

from collections.abc import Sequence

Told = tuple[int, Sequence[tuple[int, int]], bool]

QUARTER = 900
FIVE_MINUTES = 300


class Grid:
    def __init__(self, told: Sequence[Told], length: int) -> None:
        self.length = length
        self.told = told
        self.rows = [_row(parts, length) for _, parts, _ in told]
        self.listeners = [listener for listener, _, _ in told]
        self._heard_by: dict[int, list[bool]] = {}
        self.is_open = [is_open for _, _, is_open in told]
        self.first = [min((t for t in range(length) if row[t]), default=None) for row in self.rows]
        self.last = [max((t for t in range(length) if row[t]), default=None) for row in self.rows]

    def counts(self, start: int, end: int) -> dict[str, int]:
        seconds = range(start, end)
        if not seconds:
            return dict.fromkeys(
                [
                    "listening",
                    "sessions",
                    "listeners",
                    "peak",
                    "at_start",
                    "at_end",
                    "inherited",
                    "joined",
                    "left",
                    "kept",
                    "stayed",
                ],
                0,
            ) | {"peak_at": -1}
        met = [i for i, row in enumerate(self.rows) if any(row[t] for t in seconds)]
        heads = [sum(row[t] for row in self.rows) for t in seconds]
        has_left = {i for i in met if not self.is_open[i] and self.last[i] < end}
        was_there = {i for i in met if self.first[i] < start}
        return {
            "listening": sum(heads),
            "sessions": len(met),
            "listeners": len({self.listeners[i] for i in met}),
            "peak": max(heads),
            "peak_at": start + heads.index(max(heads)) if max(heads) else -1,
            "at_start": heads[0],
            "at_end": heads[-1],
            "inherited": len(was_there),
            "joined": len(met) - len(was_there),
            "left": len(has_left),
            "kept": len(met) - len(has_left),
            "stayed": sum(self.first[i] <= start and (self.is_open[i] or self.last[i] >= end - 1) for i in met),
        }

    def curve(self, start: int, end: int) -> list[float]:
        return [
            sum(sum(row[minute : min(minute + 60, end)]) for row in self.rows) / (min(minute + 60, end) - minute)
            for minute in range(start, end, 60)
        ]

    def retained(self, start: int, end: int) -> list[int]:
        present = [i for i, row in enumerate(self.rows) if start < end and row[start]]
        return [sum(self.is_open[i] or self.last[i] >= minute for i in present) for minute in range(start, end, 60)]

    def still_there(self, start: int, end: int) -> list[int]:
        met = [i for i, row in enumerate(self.rows) if any(row[start:end])]
        return [
            sum(self.first[i] <= minute and (self.is_open[i] or self.last[i] >= minute) for i in met)
            for minute in range(start, end, 60)
        ]

    def elapsed(self, start: int, end: int) -> int:
        hulls = [(first, last + 1) for first, last in zip(self.first, self.last, strict=True) if first is not None]
        return sum(max(0, min(last, end) - max(first, start)) for first, last in hulls)

    def apportioned(self, amounts: Sequence[int | None], start: int, end: int) -> int:
        """Of each session's amount what was heard by ``end`` less what was heard by ``start``, each in whole."""
        total = 0
        for row, amount in zip(self.rows, amounts, strict=True):
            if amount is not None and any(row):
                total += amount * sum(row[:end]) // sum(row) - amount * sum(row[:start]) // sum(row)
        return total

    def reached(self, slots: Sequence[tuple[int, int]]) -> int:
        people = [self.heard_by(listener) for listener in set(self.listeners)]
        return sum(sum(sum(heard[start:end]) for start, end in slots) >= FIVE_MINUTES for heard in people)

    def heard_by(self, listener: int) -> list[bool]:
        if listener not in self._heard_by:
            mine = [row for row, who in zip(self.rows, self.listeners, strict=True) if who == listener]
            self._heard_by[listener] = [any(row[t] for row in mine) for t in range(self.length)]
        return self._heard_by[listener]

    def person_seconds(self, start: int, end: int) -> int:
        return sum(sum(self.heard_by(listener)[start:end]) for listener in set(self.listeners))

    def enough_by_quarter(self, start: int, end: int, *, in_one_piece: bool) -> list[set[int]]:
        """Who heard five minutes of each clock quarter-hour that [start, end) touches."""
        people = {listener: self.heard_by(listener) for listener in self.listeners}
        found = []
        for quarter in range(start // QUARTER * QUARTER, end, QUARTER):
            enough = set()
            for listener, heard in people.items():
                seconds = heard[max(quarter, start) : min(quarter + QUARTER, end)]
                if (_longest(seconds) if in_one_piece else sum(seconds)) >= FIVE_MINUTES:
                    enough.add(listener)
            found.append(enough)
        return found


def _row(parts: Sequence[tuple[int, int]], length: int) -> list[bool]:
    row = [False] * length
    for start, end in parts:
        for t in range(max(start, 0), min(end, length)):
            row[t] = True
    return row


def _longest(seconds: Sequence[bool]) -> int:
    longest = run = 0
    for heard in seconds:
        run = run + 1 if heard else 0
        longest = max(longest, run)
    return longest
