"""Addresses of the example station: aircox's public pages and the admin."""

from __future__ import annotations

from aircox.urls import urls as aircox_urls
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("audience/", include("aircox_listen_stats.urls")),
    path("admin/", admin.site.urls),
    *aircox_urls,
]
