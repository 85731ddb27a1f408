"""Whether the listeners in a log that is imported can be told apart, found while it is read: see :mod:`.blurs`."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from .. import conf
from ..kernel import calendar
from ..kernel.arrays import Bools, Ints
from ..kernel.homes import carries_some
from . import blurs
from .import_listeners import Listeners
from .import_plan import Plan

__all__ = ["Homes"]


class Homes:
    """Of each stream's connections, when most came from one address: by broadcast day, and block of the log."""

    def __init__(self, listeners: Listeners, plan: Plan) -> None:
        self._listeners = listeners
        self._plan = plan
        self._found: dict[str, list[blurs.Compared]] = defaultdict(list)

    def look(self, slug: str, ip: Ints, listener: Ints, mark: Ints, started_ms: Ints, ended_ms: Ints) -> None:
        """Compares some connections of one stream, all of shape (connections,): numbers as in :class:`Listeners`."""
        home = self._listeners.homes(ip)
        for rows in _by_day(ended_ms, np.flatnonzero(self._plan.takes(ended_ms))):
            if len(rows) >= blurs.LEAST_COMPARED and carries_some(home[rows]):
                rows = rows[self._counts(slug, mark[rows])]
                one = blurs.in_common(home[rows], listener[rows], started_ms[rows], ended_ms[rows])
                if one.is_shared:
                    self._found[slug] = blurs.join([*self._found[slug], one])

    def found(self) -> dict[str, list[blurs.Compared]]:
        """What was found so far, by stream."""
        return {slug: list(stretches) for slug, stretches in self._found.items()}

    def _counts(self, slug: str, mark: Ints) -> Bools:
        """Who is not labelled: a relay that is named, a monitor and staff are known for what they are."""
        label, labels = self._listeners.labels(slug, mark)
        return np.array([not exclusion for _, _, exclusion, _ in labels], dtype=np.bool_)[label]


def _by_day(ended_ms: Ints, rows: Ints) -> list[Ints]:
    """Of these rows those of each broadcast day in which some end."""
    if not len(rows):
        return []
    settings = conf.get()
    ends_ms = ended_ms[rows]
    days = calendar.broadcast_days(
        settings.zone, int(ends_ms.min()), int(ends_ms.max()) + 1, starts=settings.broadcast_day_start
    )
    if len(days.starts_ms) == 1:
        return [rows]
    order = np.argsort(ends_ms)
    return np.split(rows[order], np.searchsorted(ends_ms[order], days.starts_ms[1:]))
