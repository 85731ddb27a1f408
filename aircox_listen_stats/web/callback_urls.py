"""Where Icecast's URL authentication posts to; see docs/sources/icecast.md."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import callbacks

urlpatterns: list[URLPattern] = [
    path("callback/<str:source>/<str:token>/", callbacks.callback, name="callback"),
]
