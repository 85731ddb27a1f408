"""One-to-one assignment: as many pairs as can be, and of those the cheapest."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence

__all__ = ["LARGEST", "assign"]

LARGEST = 20_000
"""Possible pairs that hang together. Beyond, the cheapest pair is taken first, which is nearly as good
and takes a second instead of minutes."""

Edge = tuple[int, int, int]
"""One, another, and what it costs to pair them (0 or more)."""


def assign(edges: Iterable[Edge], *, largest: int = LARGEST) -> list[tuple[int, int]]:
    """The pairs, sorted: each one and each other at most once."""
    pairs: list[tuple[int, int]] = []
    for some in _components(edges):
        pairs += _greedy(some) if len(some) > largest else _optimal(some)
    return sorted(pairs)


def _components(edges: Iterable[Edge]) -> list[list[Edge]]:
    """The edges in groups that share no end."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    every = list(edges)
    for one, other, _ in every:
        parent[root(2 * one)] = root(2 * other + 1)
    groups: dict[int, list[Edge]] = defaultdict(list)
    for edge in every:
        groups[root(2 * edge[0])].append(edge)
    return list(groups.values())


def _greedy(edges: Sequence[Edge]) -> list[tuple[int, int]]:
    ones: set[int] = set()
    others: set[int] = set()
    pairs = []
    for _, one, other in sorted((cost, one, other) for one, other, cost in edges):
        if one not in ones and other not in others:
            ones.add(one)
            others.add(other)
            pairs.append((one, other))
    return pairs


def _optimal(edges: Sequence[Edge]) -> list[tuple[int, int]]:
    """Shortest augmenting paths with potentials (Edmonds and Karp 1972, Tomizawa 1971)."""
    if len(edges) == 1:
        return [edges[0][:2]]
    matching = _Matching(edges)
    while matching.augment():
        pass
    return matching.pairs()


class _Matching:
    """A matching that grows by one pair a time and is the cheapest of its size throughout."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.costs: dict[int, dict[int, int]] = defaultdict(dict)
        for one, other, cost in edges:
            self.costs[one][other] = min(cost, self.costs[one].get(other, cost))
        self.of_other: dict[int, int] = {}
        self.of_one: dict[int, int] = {}
        # Potentials keep what a step costs, reduced by them, at 0 or more, so that Dijkstra may be used.
        self.high_one: dict[int, int] = dict.fromkeys(self.costs, 0)
        self.high_other: dict[int, int] = {other: 0 for _, other, _ in edges}

    def pairs(self) -> list[tuple[int, int]]:
        return list(self.of_one.items())

    def augment(self) -> bool:
        """Adds the pair that costs least, and turns others round for it; False where none can be added."""
        far_one = {one: 0 for one in self.costs if one not in self.of_one}
        for one in far_one:
            far_one[one] = -self.high_one[one]
        if not far_one:
            return False
        low = min(far_one.values())
        far_one = {one: far - low for one, far in far_one.items()}
        far_other: dict[int, int] = {}
        came_from: dict[int, int] = {}
        queue = [(far, one) for one, far in far_one.items()]
        heapq.heapify(queue)
        while queue:
            far, one = heapq.heappop(queue)
            if far > far_one[one]:
                continue
            for other, cost in self.costs[one].items():
                if self.of_one.get(one) == other:
                    continue
                there = far + cost + self.high_one[one] - self.high_other[other]
                if there >= far_other.get(other, there + 1):
                    continue
                far_other[other] = there
                came_from[other] = one
                back = self.of_other.get(other)
                if back is not None and there < far_one.get(back, there + 1):
                    far_one[back] = there  # a matched pair costs nothing, reduced
                    heapq.heappush(queue, (there, back))
        free = [other for other in far_other if other not in self.of_other]
        if not free:
            return False
        last = min(free, key=lambda other: (far_other[other] + self.high_other[other], other))
        self._raise(far_one, far_other)
        self._turn(last, came_from)
        return True

    def _raise(self, far_one: dict[int, int], far_other: dict[int, int]) -> None:
        most = max([*far_one.values(), *far_other.values()])
        for one in self.high_one:
            self.high_one[one] += far_one.get(one, most)
        for other in self.high_other:
            self.high_other[other] += far_other.get(other, most)

    def _turn(self, other: int | None, came_from: dict[int, int]) -> None:
        while other is not None:
            one = came_from[other]
            before = self.of_one.get(one)
            self.of_one[one], self.of_other[other] = other, one
            other = before
