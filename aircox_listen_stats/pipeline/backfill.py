"""A second source takes the place of what was counted, for some hours of one stream; and gives it back.

What counted is labelled 'replaced' and stays, what the second source tells is
stored beside it under the name of the back-fill, and a ruling says that in
these hours it alone counts (:mod:`kernel.rulings`). Each day, as far as the
second source observed it, is one transaction: sessions, labels, coverage, and
the note that the figures are stale.

At the borders of a day's window sessions are whole: what touches the window is
taken from the second source. Where the two sources place an instant on
different sides of a border, or one of them lost a session half-way, their
sessions are matched (:mod:`kernel.agreement`), so that nobody counts twice and
nobody is lost.
"""

from __future__ import annotations

import hashlib
import secrets as entropy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from django.db import transaction

from .. import conf
from ..errors import ListenStatsError
from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..kernel.agreement import Telling, agree
from ..kernel.types import Exclusion, Why
from ..models import LONG_SESSION_MS, LabelChange, Ruling, Session, Stream
from . import blurs, coverage, labels
from .ingest import mark_stale_windows, run_together, wait_for_reports
from .retold import Retold, manner, refuse_other_hours
from .secrets import SECRET_BYTES

__all__ = ["BackfillRefused", "Filled", "fill", "plan", "undo"]

BESIDE_MS = 30 * 60 * 1000
"""Sessions that end or begin so near to the window are looked at: an outage is noticed late."""

NAME = "back-fill"

ROWS = 500
"""Sessions of one INSERT."""


class BackfillRefused(ListenStatsError):
    """It has no reason, or there is no such back-fill."""


@dataclass(slots=True, kw_only=True)
class Filled:
    """What a back-fill did, or would do."""

    name: str = ""
    days: int = 0
    sessions: int = 0  # stored
    replaced: int = 0
    left: int = 0  # of what counted: it goes on beyond what the second source tells
    heard: list[tuple[int, int]] = field(default_factory=list)  # what of the window was back-filled


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A day of the window, as far as the second source observed it, and up to when it knows of ends."""

    started_ms: int
    ended_ms: int
    heard_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Choice:
    """Of a piece: which of the second source's sessions are stored, and what they replace."""

    taken: Sequence[int]
    replaced: int
    left: int
    also: Sequence[tuple[int, int]]


def plan(stream: Stream, from_ms_: int, to_ms_: int, retold: Retold) -> Filled:
    """What :func:`fill` would do. Raises NotRetold."""
    filled = Filled()
    known: set[int] = set()
    for piece in _pieces(retold.telling, from_ms_, to_ms_):
        _add(filled, piece, _choose(stream, piece, retold, known))
    return filled


def fill(stream: Stream, from_ms_: int, to_ms_: int, retold: Retold, *, by: str, reason: str, now_ms: int) -> Filled:
    """Lets ``retold`` count in the window in place of what did. Raises BackfillRefused, NotRetold.

    Who is killed meanwhile leaves whole days: filled or not. The same again
    is a new back-fill, which replaces the first.
    """
    if not reason.strip():
        raise BackfillRefused(labels.WITHOUT_REASON)
    filled = Filled()
    known: set[int] = set()
    keys = _Keys(retold)
    for piece in _pieces(retold.telling, from_ms_, to_ms_):
        with transaction.atomic():
            wait_for_reports()
            filled.name = filled.name or _next_name()
            choice = _choose(stream, piece, retold, known)
            ruling = Ruling(
                made_by=by,
                reason=reason,
                stream=stream,
                started=from_ms(piece.started_ms),
                ended=from_ms(piece.ended_ms),
                only_source=filled.name,
                heard_until=from_ms(piece.heard_until_ms),
                also=[list(one) for one in choice.also],
                holes=[list(one) for one in coverage.holes(stream.pk, piece.started_ms, piece.ended_ms)],
            )
            change = labels.store(ruling, now_ms=now_ms)
            _store(stream, filled.name, retold, choice.taken, keys)
            coverage.extend_coverage([(stream.pk, piece.started_ms, piece.ended_ms)], join_ms=0)
            mark_stale_windows([(stream.pk, piece.started_ms - 1, piece.ended_ms + 1)], Why.BACKFILL)
            labels.lay(ruling, change)
            blurs.of_sessions(stream.pk, piece.started_ms, piece.ended_ms, now_ms=now_ms)
        _add(filled, piece, choice)
    return filled


def undo(name: str, *, by: str, reason: str, now_ms: int) -> list[LabelChange]:
    """Lets count again what the back-fill ``name`` replaced. Raises BackfillRefused, RulingRefused.

    Its own sessions stay, labelled, until they are as old as any other.
    """
    standing = list(Ruling.objects.filter(only_source=name, revoked=None).select_related("stream").order_by("pk"))
    if not standing:
        known = sorted(
            set(Ruling.objects.filter(revoked=None).exclude(only_source="").values_list("only_source", flat=True))
        )
        raise BackfillRefused(f"No back-fill {name!r} stands. Those that do: {', '.join(known) or 'none'}.")
    with transaction.atomic():
        changes = [labels.store_revocation(one, by=by, reason=reason, now_ms=now_ms) for one in standing]
    for ruling, change in zip(standing, changes, strict=True):
        with transaction.atomic():
            wait_for_reports()
            labels.lay(ruling, change)
            _withdraw(ruling)
            blurs.of_sessions(ruling.stream_id, to_ms(ruling.started), to_ms(ruling.ended), now_ms=now_ms)
    return changes


def _add(filled: Filled, piece: _Piece, choice: _Choice) -> None:
    filled.days += 1
    filled.sessions += len(choice.taken)
    filled.replaced += choice.replaced
    filled.left += choice.left
    filled.heard = run_together([*filled.heard, (piece.started_ms, piece.ended_ms)])


def _next_name() -> str:
    """Never one that was used before, standing or not."""
    numbers = [
        int(name.rpartition(" ")[2])
        for name in Ruling.objects.exclude(only_source="").values_list("only_source", flat=True).distinct()
    ]
    return f"{NAME} {max(numbers, default=0) + 1}"


def _pieces(told: Telling, from_ms_: int, to_ms_: int) -> Iterator[_Piece]:
    """The broadcast days of the window, where the second source observed them. Raises NotRetold."""
    settings = conf.get()
    refuse_other_hours(told, from_ms_, to_ms_)
    for start_ms, end_ms in told.covered:
        first_ms, last_ms = max(start_ms, from_ms_), min(end_ms, to_ms_)
        if first_ms >= last_ms:
            continue
        days = calendar.broadcast_days(settings.zone, first_ms, last_ms, starts=settings.broadcast_day_start)
        for day_ms, next_ms in zip(days.starts_ms.tolist(), days.ends_ms.tolist(), strict=True):
            yield _Piece(started_ms=max(day_ms, first_ms), ended_ms=min(next_ms, last_ms), heard_until_ms=end_ms)


# Choosing ------------------------------------------------------------------------------------------


def _choose(stream: Stream, piece: _Piece, retold: Retold, known: set[int]) -> _Choice:
    """Which sessions of the second source stand for the piece. ``known``: those that a former piece took; added to."""
    here = _counted(stream, piece)
    there_numbers = _near(retold.telling, piece)
    there = retold.telling.only(there_numbers)
    inside = {int(number) for number in there_numbers[_touching(there, piece)]}
    may_go = _touching(here, piece) & ~here.is_open & (here.ended_ms <= piece.heard_until_ms)
    stays = _touching(here, piece) & ~may_go
    also: list[tuple[int, int]] = []
    for pair in agree(here, there, same_keys=retold.same_keys).pairs:
        number = int(there_numbers[pair.other])
        if stays[pair.one]:
            inside.discard(number)  # it is told whole here, and not there
        elif may_go[pair.one]:
            inside.add(number)
        elif number in inside and not here.is_open[pair.one]:
            also.append((int(here.listener[pair.one]), int(here.started_ms[pair.one])))
    taken = sorted(inside - known)
    known |= inside
    return _Choice(taken=taken, replaced=int(may_go.sum()) + len(also), left=int(stays.sum()), also=also)


def _counted(stream: Stream, piece: _Piece) -> Telling:
    """What counts now in and beside the piece."""
    found = Session.objects.filter(stream=stream).exclude(exclusion=Exclusion.REPLACED)
    found = found.touching(piece.started_ms - BESIDE_MS, piece.ended_ms + BESIDE_MS)
    rows = list(found.order_by("started", "pk").values_list("listener", "started", "ended", "is_open"))
    columns = np.array([[row[0], to_ms(row[1]), to_ms(row[2])] for row in rows], dtype=np.int64).reshape(-1, 3)
    return Telling(
        name=stream.source,
        listener=columns[:, 0],
        started_ms=columns[:, 1],
        ended_ms=columns[:, 2],
        heard_ms=columns[:, 2] - columns[:, 1],
        is_open=np.array([row[3] for row in rows], dtype=np.bool_),
        covered=_observed(stream, piece),
        interval_ms=manner(stream.source)[0],
    )


def _observed(stream: Stream, piece: _Piece) -> list[tuple[int, int]]:
    """What of the piece and its sides was observed before."""
    first_ms, last_ms = piece.started_ms - BESIDE_MS, piece.ended_ms + BESIDE_MS
    found, at_ms = [], first_ms
    for start_ms, end_ms in coverage.holes(stream.pk, first_ms, last_ms):
        if start_ms > at_ms:
            found.append((at_ms, start_ms))
        at_ms = end_ms
    return [*found, (at_ms, last_ms)] if at_ms < last_ms else found


def _near(told: Telling, piece: _Piece) -> np.ndarray:
    return np.flatnonzero(
        (told.started_ms < piece.ended_ms + BESIDE_MS) & (told.ended_ms > piece.started_ms - BESIDE_MS)
    )


def _touching(told: Telling, piece: _Piece) -> np.ndarray:
    """As a ruling has it: an empty session is at its instant."""
    return (told.started_ms < piece.ended_ms) & (np.maximum(told.ended_ms, told.started_ms + 1) > piece.started_ms)


# Storing -------------------------------------------------------------------------------------------


class _Keys:
    """The listeners' keys as they are stored: none can be followed from one period into the next."""

    def __init__(self, retold: Retold) -> None:
        self._are_live = retold.same_keys
        self._secrets: dict[int, bytes] = {}
        settings = conf.get()
        self._period = (settings.key_rotation, settings.zone, settings.broadcast_day_start)

    def of(self, listener: int, started_ms: int) -> int:
        if self._are_live:
            return listener
        period_ms = calendar.period_start(started_ms, *self._period)
        secret = self._secrets.setdefault(period_ms, entropy.token_bytes(SECRET_BYTES))
        digest = hashlib.blake2b(listener.to_bytes(8, "big"), key=secret, digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1  # 63 bits


def _store(stream: Stream, name: str, retold: Retold, numbers: Sequence[int], keys: _Keys) -> None:
    sessions = retold.sessions
    Session.objects.bulk_create([_row(stream, name, retold, number, keys) for number in numbers], batch_size=ROWS)
    mark_stale_windows(
        ((stream.pk, int(sessions.started_ms[number]) - 1, int(sessions.ended_ms[number]) + 1) for number in numbers),
        Why.BACKFILL,
    )


def _row(stream: Stream, name: str, retold: Retold, number: int, keys: _Keys) -> Session:
    sessions = retold.sessions
    started_ms, ended_ms = int(sessions.started_ms[number]), int(sessions.ended_ms[number])
    slot = slice(int(sessions.first_part[number]), int(sessions.first_part[number + 1]))
    parts = np.column_stack((sessions.part_started_ms[slot], sessions.part_ended_ms[slot])) - started_ms
    country, app, exclusion, rule = retold.marks[int(retold.mark[number])]
    return Session(
        stream=stream,
        listener=keys.of(int(sessions.listener[number]), started_ms),
        started=from_ms(started_ms),
        ended=from_ms(ended_ms),
        played_ms=int(sessions.played_ms[number]),
        parts=parts.tolist() if len(parts) > 1 else None,
        is_long=ended_ms - started_ms > LONG_SESSION_MS,
        country=country,
        app=app,
        exclusion=exclusion,
        rule=rule,
        source=name,
    )


def _withdraw(ruling: Ruling) -> None:
    """Takes back the coverage that the back-fill brought, but for what another one brings too."""
    stream_id = ruling.stream_id
    others = Ruling.objects.filter(stream=stream_id, revoked=None).exclude(only_source="")
    kept = run_together(
        (to_ms(start), to_ms(end)) for start, end in others.values_list("started", "ended") if start and end
    )
    for start_ms, end_ms in ruling.holes:
        coverage.withdraw(stream_id, start_ms, end_ms)
        again = [(stream_id, max(a, start_ms), min(b, end_ms)) for a, b in kept if a < end_ms and b > start_ms]
        coverage.extend_coverage(again, join_ms=0)
    mark_stale_windows([(stream_id, to_ms(ruling.started) - 1, to_ms(ruling.ended) + 1)], Why.BACKFILL)
