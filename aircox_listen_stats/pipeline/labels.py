"""Rulings on labels: made, revoked, and laid over the sessions and plays that they are about.

A ruling is stored first and its sessions are labelled afterwards, a day of one
stream in each transaction: whatever is stitched meanwhile heeds it already,
and who is killed in between lays it over again (``lay``), which changes nothing
where it is done. What a session was taken for before any ruling is kept beside
its label, so that a ruling that is revoked leaves nothing behind.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction
from django.db.models import Max, Min, Q, QuerySet
from django.db.models.functions import Coalesce

from ..errors import ListenStatsError
from ..fields import from_ms, to_ms
from ..kernel.rulings import Facts, Rulings
from ..kernel.types import Exclusion, Why
from ..models import LabelChange, RecordingPlay, Ruling, Session, Stream
from . import player_labels, rows
from .ingest import mark_stale_windows, wait_for_reports
from .rulings import SIDE_MS, of_kernel, stored
from .stitching import Window

__all__ = [
    "CHOOSABLE",
    "Laid",
    "RulingRefused",
    "about_play",
    "about_session",
    "counted_in",
    "lay",
    "lay_all",
    "make",
    "met",
    "players_would_change",
    "refuse_senseless",
    "revoke",
    "store",
    "store_revocation",
    "would_change",
]

DAY_MS = 24 * 3600 * 1000

CHOOSABLE = tuple(str(one) for one in Exclusion if one is not Exclusion.REPLACED)
"""What a technician may take a listener for; '' counts. 'replaced' is a back-fill's word."""

WITHOUT_REASON = "A ruling needs a reason: whoever reads the figures later must know why."

Label = tuple[str, str]
"""An exclusion and its rule."""


class RulingRefused(ListenStatsError):
    """A ruling that says nothing, is about everybody, or is revoked already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    """A session whose label differs: from which to which, and what was told."""

    id: int
    before: Label
    after: Label
    told: Label | None
    window: Window

    @property
    def counts_otherwise(self) -> bool:
        return bool(self.before[0]) != bool(self.after[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """How many got another label, or count or no longer count. The last two are of web players."""

    sessions: int = 0
    plays: int = 0
    player_sessions: int = 0

    def __add__(self, other: Laid) -> Laid:
        return Laid(
            sessions=self.sessions + other.sessions,
            plays=self.plays + other.plays,
            player_sessions=self.player_sessions + other.player_sessions,
        )


def make(ruling: Ruling, *, now_ms: int | None = None) -> LabelChange:
    """Stores ``ruling``, labels its sessions and plays, and marks their figures stale. Raises RulingRefused."""
    change = store(ruling, now_ms=now_ms)
    lay(ruling, change)
    return change


def revoke(ruling: Ruling, *, by: str, reason: str, now_ms: int | None = None) -> LabelChange:
    """Lets every session be again what it was without ``ruling``. Raises RulingRefused."""
    change = store_revocation(ruling, by=by, reason=reason, now_ms=now_ms)
    lay(ruling, change)
    return change


def store(ruling: Ruling, *, now_ms: int | None = None) -> LabelChange:
    """Stores ``ruling`` and begins its trail; :func:`lay` labels. Raises RulingRefused."""
    refuse_senseless(ruling)
    ruling.made = from_ms(_now(now_ms))
    with transaction.atomic():
        ruling.save(force_insert=True)
        return LabelChange.objects.create(ruling=ruling, at=ruling.made, by=ruling.made_by, reason=ruling.reason)


def store_revocation(ruling: Ruling, *, by: str, reason: str, now_ms: int | None = None) -> LabelChange:
    """Stores that ``ruling`` is revoked; :func:`lay` labels. Raises RulingRefused."""
    if not reason.strip():
        raise RulingRefused(WITHOUT_REASON)
    at = from_ms(_now(now_ms))
    with transaction.atomic():
        if not Ruling.objects.filter(pk=ruling.pk, revoked=None).update(revoked=at):
            raise RulingRefused(f"Ruling {ruling.pk} is revoked already.")
        ruling.revoked = at
        return LabelChange.objects.create(ruling=ruling, at=at, by=by, reason=reason, is_revocation=True)


def lay(ruling: Ruling, change: LabelChange | None = None) -> Laid:
    """How much of what ``ruling`` may be about got another label; noted in ``change``.

    Listening on demand is read as it is labelled: its figures follow by themselves.
    """
    total = 0
    why = Why.BACKFILL if ruling.only_source else Why.LABEL if ruling.pk else Why.LATE
    for some in _slices(ruling):
        with transaction.atomic():
            wait_for_reports()
            changed = _changed(some, stored())
            _write(changed, why)
            if change is not None and changed:
                _note(change, changed)
        total += len(changed)
    return _laid(total, player_labels.lay(ruling, change))


def lay_all(streams: Iterable[Stream], from_ms_: int, to_ms_: int) -> int:
    """How many sessions that touch the window got another label, whatever rulings there are: after an import."""
    if not Ruling.objects.exists():
        return 0
    about = (Ruling(stream=one, started=from_ms(from_ms_), ended=from_ms(to_ms_)) for one in streams)
    return sum(lay(one).sessions for one in about)


def about_session(session_id: int) -> Ruling:
    """A ruling, not stored, about the listener of this session on its stream. Raises RulingRefused.

    It holds for as long as the listener's key does: a period of KEY_ROTATION.
    """
    session = Session.objects.filter(pk=session_id).only("stream_id", "listener").first()
    if session is None:
        raise RulingRefused(f"There is no session {session_id}: it was deleted, or stitched anew under another number.")
    return Ruling(stream_id=session.stream_id, listener=session.listener)


def about_play(play_id: int) -> Ruling:
    """A ruling, not stored, about the listener of this play of a recording. Raises RulingRefused.

    It is about all that this one listens to, streams too, for as long as the listener's key lives.
    """
    found = RecordingPlay.objects.filter(pk=play_id).values_list("listener", flat=True)
    if not found:
        raise RulingRefused(f"There is no play {play_id}: it was deleted, or turned out to be empty.")
    if found[0] is None:
        raise RulingRefused(
            f"Whose play {play_id} was is forgotten: it is older than KEEP_SESSIONS_DAYS. Name its label, or its rule."
        )
    return Ruling(listener=found[0])


def met(ruling: Ruling) -> Laid:
    """How much of what is stored the ruling is about."""
    one = of_kernel(ruling)
    sessions = sum(one.meets(_facts(row)) for some in _slices(ruling) for row in _read(some))
    return _laid(sessions, player_labels.met(ruling))


def would_change(ruling: Ruling, *, is_revoked: bool = False) -> dict[int, Window]:
    """The sessions, by id, that would count or no longer count if ``ruling`` stood or were revoked; their windows."""
    rulings = _as_if(ruling, is_revoked=is_revoked)
    return {one.id: one.window for some in _slices(ruling) for one in _changed(some, rulings) if one.counts_otherwise}


def players_would_change(ruling: Ruling, *, is_revoked: bool = False) -> Laid:
    """How much of what web players told would count or no longer count if ``ruling`` stood or were revoked."""
    return _laid(0, player_labels.would_change(ruling, _as_if(ruling, is_revoked=is_revoked)))


def _as_if(ruling: Ruling, *, is_revoked: bool) -> Rulings:
    standing = [of_kernel(row) for row in Ruling.objects.all()]
    if is_revoked:
        standing = [replace(one, is_revoked=one.is_revoked or one.number == ruling.pk) for one in standing]
    else:
        newest = 1 + max((one.number for one in standing), default=0)
        standing.append(replace(of_kernel(ruling), number=newest))
    return Rulings(standing)


def counted_in(change: LabelChange) -> Laid:
    """How many got another label, by the trail."""
    of_players: Counter[str] = Counter()
    for what, *_, count in change.player_labels:
        of_players[what] += count
    return _laid(change.sessions, of_players)


def _laid(sessions: int, of_players: Mapping[str, int]) -> Laid:
    return Laid(
        sessions=sessions,
        plays=of_players.get(player_labels.PLAY, 0),
        player_sessions=of_players.get(player_labels.SESSION, 0),
    )


def refuse_senseless(ruling: Ruling) -> None:
    """Raises RulingRefused."""
    about = (ruling.told_exclusion, ruling.told_rule, ruling.app, ruling.only_source)
    if not any(about) and ruling.listener is None:
        raise RulingRefused(
            "A ruling names whom it is about: a label, a rule, an app or a listener. This one is about everybody."
        )
    if ruling.only_source:
        return
    if ruling.exclusion not in CHOOSABLE:
        allowed = ", ".join(one for one in CHOOSABLE if one)
        raise RulingRefused(f"Unknown label {ruling.exclusion!r}. Allowed: {allowed}, or none, which counts.")
    if not ruling.reason.strip():
        raise RulingRefused(WITHOUT_REASON)
    if ruling.started and ruling.ended and ruling.ended <= ruling.started:
        raise RulingRefused(f"The window ends ({ruling.ended}) before it begins ({ruling.started}).")


def _now(now_ms: int | None) -> int:
    return time.time_ns() // 1_000_000 if now_ms is None else now_ms


# Reading -------------------------------------------------------------------------------------------


def _slices(ruling: Ruling) -> Iterator[QuerySet[Session]]:
    """The sessions that the ruling may be about, by stream and the day in which they begin."""
    wanted = _wanted(ruling)
    streams = [ruling.stream_id] if ruling.stream_id else Stream.objects.values_list("pk", flat=True)
    for stream_id in streams:
        some = wanted.filter(stream=stream_id)
        bounds = some.aggregate(first=Min("started"), last=Max("started"))
        if bounds["first"] is None:
            continue
        last_ms = to_ms(bounds["last"])
        for day_ms in range(to_ms(bounds["first"]), last_ms + 1, DAY_MS):
            yield some.touching(day_ms, day_ms + DAY_MS).filter(started__gte=from_ms(day_ms))


def _wanted(ruling: Ruling) -> QuerySet[Session]:
    found = Session.objects.annotate(
        first_exclusion=Coalesce("told_exclusion", "exclusion"), first_rule=Coalesce("told_rule", "rule")
    )
    asked = {
        "source": ruling.source,
        "app": ruling.app,
        "listener": "" if ruling.listener is None else ruling.listener,
        "first_exclusion": ruling.told_exclusion,
        "first_rule": ruling.told_rule,
    }
    found = found.filter(**{name: value for name, value in asked.items() if value != ""})
    side_ms = SIDE_MS if ruling.also else 0
    inside = Q()
    if ruling.started is not None:
        inside &= Q(ended__gte=from_ms(to_ms(ruling.started) - side_ms))
    if ruling.ended is not None:
        inside &= Q(started__lte=from_ms(to_ms(ruling.ended) + side_ms))
    return found.filter(inside | Q(source=ruling.only_source) if ruling.only_source else inside)


_COLUMNS = (
    "id",
    "stream_id",
    "source",
    "exclusion",
    "rule",
    "app",
    "listener",
    "started",
    "ended",
    "is_open",
    "told_exclusion",
    "told_rule",
)


def _read(some: QuerySet[Session]) -> Iterable[Sequence[Any]]:
    return some.order_by().values_list(*_COLUMNS).iterator()


def _facts(row: Sequence[Any]) -> Facts:
    _, stream_id, source, exclusion, rule, app, listener, started, ended, is_open, told_exclusion, told_rule = row
    exclusion, rule = player_labels.told_label(exclusion, rule, told_exclusion, told_rule)
    return Facts(stream_id, source, exclusion, rule, app, listener, to_ms(started), to_ms(ended), is_open)


def _changed(some: QuerySet[Session], standing: Rulings) -> list[_Changed]:
    found = []
    for row in _read(some):
        facts = _facts(row)
        first = (facts.exclusion, facts.rule)
        ruled = standing.label(facts)
        told = None if ruled is None else first
        before, was_told = (row[3], row[4]), None if row[10] is None else (row[10], row[11] or "")
        after = first if ruled is None else ruled
        if (before, was_told) != (after, told):
            window = (facts.stream_id, facts.started_ms - 1, facts.ended_ms + 1)
            found.append(_Changed(id=row[0], before=before, after=after, told=told, window=window))
    return found


# Writing -------------------------------------------------------------------------------------------


def _write(changed: Sequence[_Changed], why: Why) -> None:
    groups: dict[tuple[Label, Label | None], list[int]] = {}
    for one in changed:
        groups.setdefault((one.after, one.told), []).append(one.id)
    for (after, told), ids in groups.items():
        rows.change_in(
            f"UPDATE {rows.table(Session)} SET exclusion = %s, rule = %s, told_exclusion = %s, told_rule = %s"
            " WHERE id IN ({values})",
            [*after, *(told or (None, None))],
            ids,
        )
    # A label that only changed its rule changes no figure.
    mark_stale_windows((one.window for one in changed if one.counts_otherwise), why)


def _note(change: LabelChange, changed: Sequence[_Changed]) -> None:
    kinds: Counter[tuple[str, ...]] = Counter({tuple(kind[:4]): kind[4] for kind in change.labels})
    kinds.update((*one.before, *one.after) for one in changed)
    change.labels = [[*kind, count] for kind, count in sorted(kinds.items())]
    change.sessions = sum(kinds.values())
    change.save(update_fields=["labels", "sessions"])
