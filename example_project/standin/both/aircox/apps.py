"""App configurations under the names that an aircox instance lists in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AircoxConfig(AppConfig):
    name = "aircox"
    verbose_name = "Aircox"
    default_auto_field = "django.db.models.AutoField"

    def ready(self) -> None:
        from aircox import receivers  # noqa: F401


class AircoxAdminConfig(AdminConfig):
    default_site = "aircox.admin_site.AdminSite"
