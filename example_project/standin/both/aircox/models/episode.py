"""Episodes, and the diffusions that put them on air."""

from __future__ import annotations

from datetime import date as Date
from datetime import datetime, time, timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import cached_property

from aircox.models.page import Page
from aircox.models.program import (
    BaseRerun,
    BaseRerunQuerySet,
    Program,
    ProgramChildQuerySet,
    Schedule,
    page_address,
)
from example_project.standin import current_shape


class Episode(Page):
    objects = ProgramChildQuerySet.as_manager()

    @property
    def program(self) -> Program:
        return getattr(self.parent, "program", self.parent)

    @program.setter
    def program(self, program: Program) -> None:
        self.parent = program

    def get_absolute_url(self) -> str:
        if not self.is_published:
            return self.program.get_absolute_url()
        return page_address("episode-detail", self)


class DiffusionQuerySet(BaseRerunQuerySet):
    def episode(self, episode: Episode | None = None, id: int | None = None) -> DiffusionQuerySet:
        if id is None:
            return self.filter(episode=episode)
        return self.filter(episode__id=id)

    def on_air(self) -> DiffusionQuerySet:
        """Those meant for the air, whenever: it is a matter of type, not of time."""
        return self.filter(type=Diffusion.TYPE_ON_AIR)

    def now(self, now: datetime | None = None, order: bool = True) -> DiffusionQuerySet:
        """Those that run at an instant, both bounds included."""
        now = now or timezone.now()
        running = self.filter(start__lte=now, end__gte=now).distinct()
        return running.order_by("start") if order else running

    def date(self, date: Date | None = None, order: bool = True) -> DiffusionQuerySet:
        """Those that touch a day of the current time zone."""
        day = date or timezone.localdate()
        first = datetime.combine(day, time(), tzinfo=timezone.get_current_timezone())
        last = first + timedelta(days=1)
        touching = self.filter(start__lt=last, end__gte=first)
        return touching.order_by("start") if order else touching

    def at(self, date: Date, order: bool = True) -> DiffusionQuerySet:
        """Those that run at an instant, or touch a day."""
        if isinstance(date, datetime):
            return self.now(date, order)
        return self.date(date, order)

    def after(self, date: datetime | None = None) -> DiffusionQuerySet:
        return self.filter(start__gte=date or timezone.now()).order_by("start")

    def before(self, date: datetime | None = None) -> DiffusionQuerySet:
        """Those that start at or before an instant: the start counts, not the end."""
        return self.filter(start__lte=date or timezone.now()).order_by("start")

    def range(self, start: datetime, end: datetime) -> DiffusionQuerySet:
        return self.filter(start__gte=start, start__lt=end)


class Diffusion(BaseRerun):
    TYPE_ON_AIR = 0x00
    TYPE_UNCONFIRMED = 0x01
    TYPE_CANCEL = 0x02
    TYPE_CHOICES = (
        (TYPE_ON_AIR, "on air"),
        (TYPE_UNCONFIRMED, "not confirmed"),
        (TYPE_CANCEL, "cancelled"),
    )

    episode = models.ForeignKey(Episode, models.CASCADE)
    schedule = models.ForeignKey(Schedule, models.CASCADE, blank=True, null=True)
    type = models.SmallIntegerField(default=TYPE_ON_AIR, choices=TYPE_CHOICES)
    start = models.DateTimeField(db_index=True)
    end = models.DateTimeField(db_index=True)

    objects = DiffusionQuerySet.as_manager()

    class Meta:
        permissions = (("programming", "edit the diffusion's planification"),)

    def __str__(self) -> str:
        rerun = " (rerun)" if self.initial_id else ""
        return f"{self.episode.title} - {self.local_start:%Y/%m/%d %H:%M%z}{rerun}"

    def copy_initial(self) -> None:
        self.episode = self.initial.episode
        self.program = self.episode.program

    def settle_initial(self) -> None:
        self.program = self.episode.program

    def save(self, *args: Any, **kwargs: Any) -> None:
        known = self.pk is not None and self.initial_id is None
        super().save(*args, **kwargs)
        if known:
            reruns = self.rerun_set.exclude(episode=self.episode_id)
            reruns.update(episode=self.episode, program=self.program)

    @property
    def duration(self) -> timedelta:
        return self.end - self.start

    @property
    def date(self) -> Date:
        return self.start.date()

    @cached_property
    def local_start(self) -> datetime:
        return timezone.localtime(self.start)

    @property
    def local_end(self) -> datetime:
        return timezone.localtime(self.end)

    @property
    def is_now(self) -> bool:
        return self.type == self.TYPE_ON_AIR and self.start <= timezone.now() <= self.end

    def _lives(self) -> bool:
        """True when it is meant for the air and its episode has no archive to play."""
        on_air = self.type == self.TYPE_ON_AIR
        return on_air and not self.episode.sound_set.archive().exists()

    # 0.9 calls it, later versions read it.
    is_live: Any = _lives if current_shape() == "0.9" else property(_lives)

    def get_conflicts(self) -> DiffusionQuerySet:
        """Other diffusions whose time overlaps: aircox allows them."""
        overlapping = Q(start__lt=self.start, end__gt=self.start)
        overlapping |= Q(start__gt=self.start, start__lt=self.end)
        return Diffusion.objects.filter(overlapping).exclude(pk=self.pk).distinct()
