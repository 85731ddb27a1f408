"""Whose program it is: what somebody may see, and gets letters about.

Everything: superusers, staff, and holders of ``view_all_audiences``. A
producer: the programs given to her or to one of her groups (ProgramAccess),
and those whose group of editors she is in, where aircox knows such groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from ..errors import AircoxMissing
from ..models import ProgramAccess
from . import aircox
from .base import ProgramRef, StationRef

SEE_ALL = "aircox_listen_stats.view_all_audiences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The programs that somebody may see; ``program_ids`` is None for all of them."""

    program_ids: frozenset[int] | None

    @property
    def is_everything(self) -> bool:
        return self.program_ids is None

    def covers(self, program_id: int | None) -> bool:
        """Whether the program is within reach. What belongs to no program, only those who see all see."""
        return self.program_ids is None or program_id in self.program_ids


EVERYTHING = Reach(program_ids=None)
NOTHING = Reach(program_ids=frozenset())


def reach_of(user: Any, programs: Mapping[int, ProgramRef] | None = None) -> Reach:
    """What ``user`` may see. ``programs``: aircox's programs where they are at hand, else they are asked for."""
    if not user.is_active or not user.is_authenticated:
        return NOTHING
    if user.is_superuser or user.is_staff or user.has_perm(SEE_ALL):
        return EVERYTHING
    given = ProgramAccess.objects.filter(Q(user_id=user.pk) | Q(group__in=user.groups.all()))
    found = set(given.values_list("program_id", flat=True))
    known = station_programs() if programs is None else programs
    edited = [program for program in known.values() if program.editors_group_id is not None]
    if edited:
        groups = frozenset(user.groups.values_list("id", flat=True))
        found.update(program.id for program in edited if program.editors_group_id in groups)
    return Reach(program_ids=frozenset(found))


def station_programs(station_id: int | None = None) -> dict[int, ProgramRef]:
    """aircox's programs by id; none where there is no aircox."""
    try:
        return {program.id: program for program in aircox.log().programs(station_id)}
    except AircoxMissing:
        return {}


def stations() -> tuple[StationRef, ...]:
    """aircox's stations; none where there is no aircox."""
    try:
        return tuple(aircox.log().stations())
    except AircoxMissing:
        return ()
