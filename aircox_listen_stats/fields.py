"""Model fields of our own."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import models

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MILLISECOND = dt.timedelta(milliseconds=1)


def to_ms(instant: dt.datetime) -> int:
    """Whole milliseconds since 1970 UTC, rounded down. Refuses a naive datetime."""
    if instant.tzinfo is None:
        raise ValueError(
            f"Naive datetime {instant.isoformat()}: an instant needs a time zone. "
            "Use django.utils.timezone.make_aware()."
        )
    return (instant - EPOCH) // MILLISECOND


def from_ms(ms: int) -> dt.datetime:
    """The aware UTC datetime of ``ms`` milliseconds since 1970."""
    return EPOCH + dt.timedelta(milliseconds=ms)


class InstantField(models.BigIntegerField):
    """An instant: an aware UTC datetime in Python, epoch milliseconds in the database.

    Both databases then sort, compare and index it alike, and a column loads
    into numpy as it is. Lookups and assignments take aware datetimes or
    integers that are milliseconds already; naive datetimes are refused.
    """

    description = "Instant (milliseconds since 1970 UTC)"

    def from_db_value(self, value: int | None, expression: Any, connection: Any) -> dt.datetime | None:
        return None if value is None else from_ms(value)

    def to_python(self, value: Any) -> dt.datetime | None:
        if value is None or isinstance(value, dt.datetime):
            return value
        if isinstance(value, str) and not value.lstrip("-").isdigit():
            return dt.datetime.fromisoformat(value)
        return from_ms(int(value))

    def get_prep_value(self, value: Any) -> int | None:
        if isinstance(value, dt.datetime):
            return to_ms(value)
        return super().get_prep_value(value)

    def value_to_string(self, obj: models.Model) -> str:
        value = self.value_from_object(obj)
        return "" if value is None else value.isoformat()

    def formfield(self, **kwargs: Any) -> Any:
        from django import forms

        return forms.DateTimeField(required=not self.blank, label=self.verbose_name, help_text=self.help_text)

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        # The integer range validators of the parent do not fit a datetime.
        if value is None and not self.null:
            super().validate(value, model_instance)

    def run_validators(self, value: Any) -> None:
        if isinstance(value, dt.datetime):
            to_ms(value)
