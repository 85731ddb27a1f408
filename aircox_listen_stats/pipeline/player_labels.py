"""Rulings on labels, laid over what web players told: plays of recordings, sessions in the player, visits.

No stream is theirs: a ruling that names one, or a source, is not about them.
Once it is forgotten who it was, the ruling that spoke before is known by its
name alone, and can be revoked as any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from ..fields import to_ms
from ..kernel.rulings import Facts, Rulings
from ..models import LabelChange, PlayerSession, PlayerVisit, RecordingPlay, Ruling
from . import lease, rows
from .rulings import of_kernel, stored

__all__ = ["PLAY", "PLAYERS", "SESSION", "label", "lay", "make_final", "met", "told_label", "would_change"]

PLAY, SESSION = "play", "session in the player"
"""What the trail calls them. A visit is working memory, and not counted."""

PLAYERS = "web players"
"""Whoever derives what players told, or labels it, does so alone."""

BATCH = 1_000
"""Rows of one transaction."""

Label = tuple[str, str]
"""An exclusion and its rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    model: type[models.Model]
    ended: str
    name: str = ""


KINDS = (
    _Kind(model=RecordingPlay, ended="seen", name=PLAY),
    _Kind(model=PlayerSession, ended="ended", name=SESSION),
    _Kind(model=PlayerVisit, ended="seen"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    """A row whose label differs: from which to which, and what was told."""

    pk: int
    before: Label
    after: Label
    told: Label | None

    @property
    def counts_otherwise(self) -> bool:
        return bool(self.before[0]) != bool(self.after[0])


def label(
    standing: Rulings, *, listener: int, app: str, told: Label, started_ms: int, ended_ms: int
) -> dict[str, str | None]:
    """The four fields of what is derived anew from what a listener's players told."""
    ruled = standing.label(_facts(listener, app, told, started_ms, ended_ms))
    exclusion, rule = ruled or told
    told_exclusion, told_rule = told if ruled else (None, None)
    return {"exclusion": exclusion, "rule": rule, "told_exclusion": told_exclusion, "told_rule": told_rule}


def told_label(exclusion: str, rule: str, told_exclusion: str | None, told_rule: str | None) -> Label:
    """What a row was told, of its four fields: its label where no ruling spoke."""
    return (exclusion, rule) if told_exclusion is None else (told_exclusion, told_rule or "")


def lay(ruling: Ruling, change: LabelChange | None = None) -> Counter[str]:
    """How many plays and sessions that ``ruling`` may be about got another label; noted in ``change``."""
    total: Counter[str] = Counter()
    for kind in KINDS if _is_about_players(ruling) else ():
        after_pk: int | None = -1
        while after_pk is not None:
            with transaction.atomic():
                lease.alone(PLAYERS)
                some = list(_read(kind, ruling).filter(pk__gt=after_pk).order_by("pk")[:BATCH])
                changed = _changed(some, stored())
                _write(kind, changed)
                if kind.name and change is not None and changed:
                    _note(change, kind, changed)
            if kind.name:
                total[kind.name] += len(changed)
            after_pk = some[-1][0] if len(some) == BATCH else None
    return total


def met(ruling: Ruling) -> Counter[str]:
    """How many stored plays and sessions the ruling is about."""
    one = of_kernel(ruling)
    return Counter(
        kind.name for kind, some in _told_of(ruling) for row in some if kind.name and one.meets(_facts_of(row))
    )


def would_change(ruling: Ruling, standing: Rulings) -> Counter[str]:
    """How much of what ``ruling`` is about would count or no longer count if ``standing`` were all rulings."""
    return Counter(
        kind.name
        for kind, some in _told_of(ruling)
        for one in _changed(some, standing)
        if kind.name and one.counts_otherwise
    )


def make_final(rulings: QuerySet[Ruling]) -> None:
    """Lets what was labelled by rulings that are to be deleted keep its label: nobody could revoke them any more."""
    names = [of_kernel(one).name for one in rulings]
    for kind in KINDS if names else ():
        kind.model._default_manager.filter(rule__in=names).update(told_exclusion=None, told_rule=None)


def _is_about_players(ruling: Ruling) -> bool:
    return ruling.stream_id is None and not ruling.source and not ruling.only_source


# Reading -------------------------------------------------------------------------------------------


def _told_of(ruling: Ruling) -> Iterator[tuple[_Kind, Iterator[Sequence[Any]]]]:
    for kind in KINDS if _is_about_players(ruling) else ():
        yield kind, _read(kind, ruling).iterator()


def _read(kind: _Kind, ruling: Ruling) -> QuerySet[Any]:
    """The rows that the ruling may be about, and those that it labelled."""
    found = kind.model._default_manager.annotate(
        first_exclusion=Coalesce("told_exclusion", "exclusion"), first_rule=Coalesce("told_rule", "rule")
    )
    asked = {
        "app": ruling.app,
        "listener": "" if ruling.listener is None else ruling.listener,
        "first_exclusion": ruling.told_exclusion,
        "first_rule": ruling.told_rule,
    }
    about = Q(**{name: value for name, value in asked.items() if value != ""})
    if ruling.started is not None:
        about &= Q(**{f"{kind.ended}__gte": ruling.started})
    if ruling.ended is not None:
        about &= Q(started__lt=ruling.ended)
    labelled = Q(rule=of_kernel(ruling).name, told_exclusion__isnull=False)
    names = ("pk", "listener", "app", "exclusion", "rule", "told_exclusion", "told_rule", "started", kind.ended)
    return found.filter(about | labelled).order_by().values_list(*names)


def _facts_of(row: Sequence[Any]) -> Facts:
    _, listener, app, exclusion, rule, told_exclusion, told_rule, started, ended = row
    told = told_label(exclusion, rule, told_exclusion, told_rule)
    once = rule if listener is None and told_exclusion is not None else ""
    return _facts(listener, app, told, to_ms(started), to_ms(ended), once)


def _facts(listener: int | None, app: str, told: Label, started_ms: int, ended_ms: int, once: str = "") -> Facts:
    return Facts(
        stream_id=None,
        source="",
        exclusion=told[0],
        rule=told[1],
        app=app,
        listener=listener,
        started_ms=started_ms,
        ended_ms=ended_ms,
        is_open=False,
        once=once,
    )


def _changed(some: Iterator[Sequence[Any]] | Sequence[Sequence[Any]], standing: Rulings) -> list[_Changed]:
    found = []
    for row in some:
        facts = _facts_of(row)
        first = (facts.exclusion, facts.rule)
        ruled = standing.label(facts)
        told = None if ruled is None else first
        before, was_told = (row[3], row[4]), None if row[5] is None else (row[5], row[6] or "")
        after = first if ruled is None else ruled
        if (before, was_told) != (after, told):
            found.append(_Changed(pk=row[0], before=before, after=after, told=told))
    return found


# Writing -------------------------------------------------------------------------------------------


def _write(kind: _Kind, changed: Sequence[_Changed]) -> None:
    groups: dict[tuple[Label, Label | None], list[int]] = {}
    for one in changed:
        groups.setdefault((one.after, one.told), []).append(one.pk)
    for (after, told), numbers in groups.items():
        exclusion, rule = after
        told_exclusion, told_rule = told or (None, None)
        for some in rows.chunks(numbers):
            kind.model._default_manager.filter(pk__in=list(some)).update(
                exclusion=exclusion, rule=rule, told_exclusion=told_exclusion, told_rule=told_rule
            )


def _note(change: LabelChange, kind: _Kind, changed: Sequence[_Changed]) -> None:
    kinds: Counter[tuple[str, ...]] = Counter({tuple(one[:5]): one[5] for one in change.player_labels})
    kinds.update((kind.name, *one.before, *one.after) for one in changed)
    change.player_labels = [[*one, count] for one, count in sorted(kinds.items())]
    change.save(update_fields=["player_labels"])
