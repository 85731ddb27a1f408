"""The admin site that replaces Django's own in an aircox instance."""

from __future__ import annotations

from django.contrib import admin


class AdminSite(admin.AdminSite):
    site_header = "Aircox (stand-in)"
    site_title = "Aircox"
