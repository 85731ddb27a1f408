"""The pages; see web/urls.py and docs/pages.md."""

from __future__ import annotations

from django.urls import path, register_converter
from django.urls.converters import IntConverter

from . import letters, views


class NumberConverter(IntConverter):
    """A number that both databases can hold; a longer one is the address of nothing."""

    regex = "[0-9]{1,18}"


register_converter(NumberConverter, "listen_stats_number")

urlpatterns = [
    path("", views.programs, name="programs"),
    path("programs/<listen_stats_number:program_id>/", views.program, name="program"),
    path("programs/<listen_stats_number:program_id>/report/", views.program_report, name="program_report"),
    path("report/", views.report, name="report"),
    path("diffusions/<listen_stats_number:airing_id>/", views.diffusion, name="diffusion"),
    path("diffusions/of/<listen_stats_number:diffusion_id>/", views.diffusion_of, name="diffusion_of"),
    path("programs/<listen_stats_number:program_id>/letters/", letters.switch, name="letters_switch"),
    path("letters/stop/<str:token>/", letters.stop, name="letters_stop"),
    path("performances/", views.performances, name="performances"),
    path("status/", views.status, name="status"),
    path("api/", views.api, name="api"),
]
