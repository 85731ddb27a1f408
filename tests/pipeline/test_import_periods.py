"""The periods of an import's keys, at every change of the clocks."""

from __future__ import annotations

import pytest
from django.test import override_settings

from aircox_listen_stats.kernel import calendar
from aircox_listen_stats.pipeline import import_listeners

HOUR = 3_600_000
BEGIN = 1_735_700_400_000
"""2025-01-01 03:00 UTC."""


@pytest.mark.parametrize(
    "zone", ["Europe/Brussels", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe"]
)
@pytest.mark.parametrize("rotation", ["day", "week", "month"])
def test_a_period_ends_where_the_next_begins(rotation: str, zone: str) -> None:
    with override_settings(AIRCOX_LISTEN_STATS={"KEY_ROTATION": rotation, "TIME_ZONE": zone}):
        settings = import_listeners.conf.get()
        start, seen = import_listeners._period_start(BEGIN), 0
        while start < BEGIN + 400 * 24 * HOUR:
            end = import_listeners._period_end(start)
            assert end > start
            for instant, expected in ((end - 1, start), (end, end)):
                period = (settings.key_rotation, settings.zone, settings.broadcast_day_start)
                assert calendar.period_start(instant, *period) == expected
            start, seen = end, seen + 1
        assert seen > {"day": 400, "week": 56, "month": 12}[rotation] - 1
