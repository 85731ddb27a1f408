"""Stations and the ports that their sound enters and leaves by."""

from __future__ import annotations

import os
from typing import Any

from django.db import models

from aircox import conf


class StationQuerySet(models.QuerySet["Station"]):
    def default(self, station: int | None = None) -> Station | None:
        """The station with that primary key; without one the default station, else the oldest."""
        if station is not None:
            return self.filter(pk=station).first()
        return self.order_by("-default", "pk").first()

    def active(self) -> StationQuerySet:
        return self.filter(active=True)


class Station(models.Model):
    name = models.CharField(max_length=64)
    slug = models.SlugField(max_length=64, unique=True)
    path = models.CharField(max_length=256, blank=True)
    default = models.BooleanField(default=True)
    active = models.BooleanField(default=True)
    hosts = models.TextField(max_length=512, null=True, blank=True)
    audio_streams = models.TextField(max_length=2048, null=True, blank=True)

    objects = StationQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @property
    def streams(self) -> list[str]:
        """Addresses at which the public listens, one per line of `audio_streams`."""
        return [line.strip() for line in (self.audio_streams or "").splitlines() if line.strip()]

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.path:
            self.path = os.path.join(conf.stations_dir(), self.slug.replace("-", "_"))
        if self.default:
            Station.objects.filter(default=True).exclude(pk=self.pk).update(default=False)
        super().save(*args, **kwargs)


class PortQuerySet(models.QuerySet["Port"]):
    def active(self, value: bool = True) -> PortQuerySet:
        return self.filter(active=value)

    def input(self) -> PortQuerySet:
        return self.filter(direction=Port.DIRECTION_INPUT)

    def output(self) -> PortQuerySet:
        return self.filter(direction=Port.DIRECTION_OUTPUT)


class Port(models.Model):
    DIRECTION_INPUT = 0x00
    DIRECTION_OUTPUT = 0x01
    DIRECTION_CHOICES = ((DIRECTION_INPUT, "input"), (DIRECTION_OUTPUT, "output"))

    TYPE_JACK = 0x00
    TYPE_ALSA = 0x01
    TYPE_PULSEAUDIO = 0x02
    TYPE_ICECAST = 0x03
    TYPE_HTTP = 0x04
    TYPE_HTTPS = 0x05
    TYPE_FILE = 0x06
    # The words are names of Liquidsoap's inputs and outputs.
    TYPE_CHOICES = (
        (TYPE_JACK, "jack"),
        (TYPE_ALSA, "alsa"),
        (TYPE_PULSEAUDIO, "pulseaudio"),
        (TYPE_ICECAST, "icecast"),
        (TYPE_HTTP, "http"),
        (TYPE_HTTPS, "https"),
        (TYPE_FILE, "file"),
    )

    station = models.ForeignKey(Station, models.CASCADE)
    direction = models.SmallIntegerField(choices=DIRECTION_CHOICES)
    type = models.SmallIntegerField(choices=TYPE_CHOICES)
    active = models.BooleanField(default=True)
    # Raw text of Liquidsoap arguments: it may hold passwords.
    settings = models.TextField(null=True, blank=True)

    objects = PortQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.get_direction_display()}: {self.get_type_display()} #{self.pk or ''}"
