"""Every page and endpoint of the app, to be included under one prefix."""

from __future__ import annotations

from . import api_urls, callback_urls, live_urls, page_urls, player_urls

app_name = "listen_stats"
urlpatterns = [
    *page_urls.urlpatterns,
    *live_urls.urlpatterns,
    *callback_urls.urlpatterns,
    *player_urls.urlpatterns,
    *api_urls.urlpatterns,
]
