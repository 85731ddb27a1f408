"""Who may see which program's audience, on the pages: what :mod:`~aircox_listen_stats.onair.reach` says.

What somebody may see, she may also export.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse

from ..onair.reach import EVERYTHING, NOTHING, SEE_ALL, Reach, reach_of, station_programs, stations

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "SEE_ALL",
    "Reach",
    "for_people",
    "may_see_program",
    "reach_of",
    "station_programs",
    "stations",
]

View = Callable[..., HttpResponse]


def may_see_program(user: Any, program_id: int | None) -> bool:
    """Whether ``user`` may see the audience of that program: for templates and views of a station."""
    return reach_of(user).covers(program_id)


def for_people(view: View) -> View:
    """Sends visitors without a login to the login page, and keeps their answer out of shared caches."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        response = view(request, *args, **kwargs)
        response.setdefault("Cache-Control", "private, no-cache")
        return response

    return guarded
