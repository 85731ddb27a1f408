"""InstantField: one instant, alike in Python and in both databases."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from django.db import connection

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Secret

BRUSSELS = zoneinfo.ZoneInfo("Europe/Brussels")


def test_the_repeated_hour_is_two_instants() -> None:
    first = dt.datetime(2026, 10, 25, 2, 30, tzinfo=BRUSSELS)
    again = first.replace(fold=1)
    assert to_ms(again) - to_ms(first) == 3_600_000


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="Naive datetime"):
        to_ms(dt.datetime(2026, 1, 1))  # noqa: DTZ001


def test_milliseconds_come_back_as_they_went() -> None:
    for ms in (0, 1, 999, 1_795_312_388_441, -1):
        assert to_ms(from_ms(ms)) == ms


@pytest.mark.django_db
def test_the_column_is_an_integer_and_lookups_take_instants_of_any_zone() -> None:
    instant = dt.datetime(2026, 10, 25, 2, 30, 0, 123_456, tzinfo=BRUSSELS)
    Secret.objects.create(started=instant, value=b"x")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT started FROM {Secret._meta.db_table}")
        assert cursor.fetchone() == (to_ms(instant),)
    found = Secret.objects.get(started__lte=instant.astimezone(dt.UTC))
    assert found.started == dt.datetime(2026, 10, 25, 0, 30, 0, 123_000, tzinfo=dt.UTC)
    assert Secret.objects.filter(started=to_ms(instant)).exists()
    with pytest.raises(ValueError, match="Naive"):
        list(Secret.objects.filter(started=dt.datetime(2026, 1, 1)))  # noqa: DTZ001
