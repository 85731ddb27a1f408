"""URL patterns of the live figures; see web/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import live_api

urlpatterns: list[URLPattern] = [
    path("live/<slug:station>.json", live_api.live, name="live"),
    path("live/<slug:station>/staff.json", live_api.staff, name="live_staff"),
]
