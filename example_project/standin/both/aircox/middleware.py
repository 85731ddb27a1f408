"""Puts the station on each request, as aircox does."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from aircox.models import Station


class AircoxMiddleware:
    """Sets `request.station`: the station that lists the host, else the default one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.station = station_of(request.get_host())  # type: ignore[attr-defined]
        return self.get_response(request)


def station_of(host: str) -> Station | None:
    """The station whose `hosts` text holds the host, else the default one, None without stations."""
    return Station.objects.filter(hosts__contains=host).first() or Station.objects.default()
