"""Endpoints for programs; see web/openapi.py."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import openapi, openapi_stream_events, stream_events

urlpatterns: list[URLPattern] = [
    path(openapi.PATH, openapi.openapi, name="openapi"),
    path(openapi_stream_events.INGEST.lstrip("/"), stream_events.ingest, name="ingest_stream_events"),
    path(openapi_stream_events.READ.lstrip("/"), stream_events.events, name="stream_events"),
]
