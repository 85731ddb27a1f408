"""Programs, the streams between them, their schedules, and what repeats has in common."""

from __future__ import annotations

import os
from datetime import date as Date
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from aircox import conf
from aircox.models.page import Page, PageQuerySet
from aircox.models.station import Station


class ProgramQuerySet(PageQuerySet):
    def station(self, station: Station) -> ProgramQuerySet:
        return self.filter(station=station)

    def active(self) -> ProgramQuerySet:
        return self.filter(active=True)


class Program(Page):
    station = models.ForeignKey(Station, models.CASCADE)
    active = models.BooleanField(default=True)
    sync = models.BooleanField(default=True)

    objects = ProgramQuerySet.as_manager()

    @property
    def path(self) -> str:
        """Folder of the program's sounds."""
        return os.path.join(conf.programs_dir(), self.slug.replace("-", "_"))

    @property
    def archives_path(self) -> str:
        return os.path.join(self.path, "archives")

    @property
    def excerpts_path(self) -> str:
        # The same folder as the archives: so it is in aircox.
        return os.path.join(self.path, "archives")

    def get_absolute_url(self) -> str:
        return page_address("program-detail", self) if self.is_published else "#"


class ProgramChildQuerySet(PageQuerySet):
    def station(self, station: Station | None = None, id: int | None = None) -> ProgramChildQuerySet:
        return self.filter(parent__program__station=_key(station, id))

    def program(self, program: Program | None = None, id: int | None = None) -> ProgramChildQuerySet:
        return self.parent(program, id)


class BaseRerunQuerySet(models.QuerySet[Any]):
    def station(self, station: Station | None = None, id: int | None = None) -> BaseRerunQuerySet:
        return self.filter(program__station=_key(station, id))

    def program(self, program: Program | None = None, id: int | None = None) -> BaseRerunQuerySet:
        return self.filter(program=_key(program, id))

    def rerun(self) -> BaseRerunQuerySet:
        return self.filter(initial__isnull=False)

    def initial(self) -> BaseRerunQuerySet:
        return self.filter(initial__isnull=True)


class BaseRerun(models.Model):
    """Something that airs, perhaps as the repeat of an `initial` one."""

    program = models.ForeignKey(Program, models.CASCADE, db_index=True)
    initial = models.ForeignKey(
        "self",
        models.SET_NULL,
        related_name="rerun_set",
        limit_choices_to={"initial__isnull": True},
        blank=True,
        null=True,
        db_index=True,
    )

    objects = BaseRerunQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.initial is not None:
            # A repeat of a repeat is a repeat of the first one.
            self.initial = self.initial.initial or self.initial
            self.copy_initial()
        else:
            self.settle_initial()
        super().save(*args, **kwargs)

    def copy_initial(self) -> None:
        """Nothing; a repeat takes over what it shares with its initial."""

    def settle_initial(self) -> None:
        """Nothing; an initial fills in what follows from its own fields."""

    @property
    def is_initial(self) -> bool:
        return self.initial is None

    @property
    def is_rerun(self) -> bool:
        return self.initial is not None

    def get_initial(self) -> Any:
        return self.initial or self


class Stream(models.Model):
    """What a program plays between the diffusions: a program with a stream is a streamed one."""

    program = models.ForeignKey(Program, models.CASCADE)
    delay = models.TimeField(blank=True, null=True)
    begin = models.TimeField(blank=True, null=True)
    end = models.TimeField(blank=True, null=True)

    def __str__(self) -> str:
        return f"stream of {self.program}"


class Schedule(BaseRerun):
    class Frequency(IntEnum):
        """Weeks of the month as bits; `one_on_two` stands outside the months."""

        ponctual = 0b000000
        first = 0b000001
        second = 0b000010
        third = 0b000100
        fourth = 0b001000
        last = 0b010000
        first_and_third = 0b000101
        second_and_fourth = 0b001010
        every = 0b011111
        one_on_two = 0b100000

    date = models.DateField()
    time = models.TimeField()
    timezone = models.CharField(max_length=100, default=timezone.get_current_timezone_name)
    duration = models.TimeField()
    frequency = models.SmallIntegerField(choices=[(int(value), value.name) for value in Frequency])

    def __str__(self) -> str:
        return f"{self.program.title} - {self.get_frequency_display()}, {self.time:%H:%M}"

    def copy_initial(self) -> None:
        self.program = self.initial.program
        self.duration = self.initial.duration
        self.frequency = self.initial.frequency

    @property
    def start(self) -> datetime:
        """First start, naive."""
        return datetime.combine(self.date, self.time)

    @property
    def end(self) -> datetime:
        """First end, naive."""
        return self.start + timedelta(
            hours=self.duration.hour, minutes=self.duration.minute, seconds=self.duration.second
        )

    def normalize(self, date: Date) -> datetime:
        """Start on that date, aware, in the schedule's zone."""
        day = date.date() if isinstance(date, datetime) else date
        return datetime.combine(day, self.time, tzinfo=ZoneInfo(str(self.timezone)))


def page_address(name: str, page: Page) -> str:
    """Address of a published page; `#` where the instance did not mount aircox's pages."""
    try:
        return reverse(name, kwargs={"slug": page.slug})
    except NoReverseMatch:
        return "#"


def _key(row: models.Model | None, id: int | None) -> int | None:
    return row.pk if row is not None and id is None else id
