from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ListenStatsConfig(AppConfig):
    """Imports the checks and the receivers, installs the Monitor hook, and stops."""

    name = "aircox_listen_stats"
    label = "aircox_listen_stats"
    verbose_name = _("Listening statistics")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401
        from .onair import monitor
        from .web import receivers

        receivers.connect()
        monitor.install_if_configured()
