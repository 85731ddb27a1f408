"""What a station includes: ``path("audience/", include("aircox_listen_stats.urls"))``."""

from .web.urls import app_name, urlpatterns

__all__ = ["app_name", "urlpatterns"]
