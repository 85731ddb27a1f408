"""Addresses of the public pages, as the list that an instance adds to its own."""

from __future__ import annotations

from django.urls import path

from aircox import views

urls = [
    path("", views.HomeView.as_view(), name="home"),
    path("week/", views.DayView.as_view(), name="diffusion-list"),
    path("programs/", views.ProgramListView.as_view(), name="program-list"),
    path("programs/<slug:slug>/", views.ProgramView.as_view(), name="program-detail"),
    path("episodes/<slug:slug>/", views.EpisodeView.as_view(), name="episode-detail"),
    path("logs/", views.LogListView.as_view(), name="log-list"),
]
