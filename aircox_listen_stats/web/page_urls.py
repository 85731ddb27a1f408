"""The pages; see web/urls.py and docs/pages.md."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("", views.programs, name="programs"),
    path("programs/<int:program_id>/", views.program, name="program"),
    path("diffusions/<int:airing_id>/", views.diffusion, name="diffusion"),
    path("diffusions/of/<int:diffusion_id>/", views.diffusion_of, name="diffusion_of"),
    path("status/", views.status, name="status"),
]
