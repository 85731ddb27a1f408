"""Addresses of the example station: aircox's public pages and the admin."""

from __future__ import annotations

from aircox.urls import urls as aircox_urls
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

urlpatterns = [
    path("audience/", include("aircox_listen_stats.urls")),
    path("login/", LoginView.as_view(template_name="example_project/login.html"), name="login"),
    path("logout/", LogoutView.as_view(next_page="home"), name="logout"),
    path("admin/", admin.site.urls),
    *aircox_urls,
]
