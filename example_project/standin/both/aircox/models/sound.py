"""Sounds, which are files, and the tracks inside them.

The two shapes differ in one column: 0.9 keeps the absolute path of the file as text in `path`, 1.0
keeps the file in `file`, relative to MEDIA_ROOT. A database belongs to the shape that made it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import models

from aircox.models.episode import Diffusion, Episode
from aircox.models.program import Program
from aircox.models.station import Station
from example_project.standin import current_shape

FILE_FIELD = "path" if current_shape() == "0.9" else "file"


def file_column() -> models.Field[Any, Any]:
    """The field that leads to the file, in the current shape."""
    if current_shape() == "0.9":
        return models.CharField(max_length=255, blank=True, null=True, unique=True)
    return models.FileField(max_length=256, blank=True, null=True, unique=True, upload_to="programs")


class SoundQuerySet(models.QuerySet["Sound"]):
    def station(self, station: Station | None = None, id: int | None = None) -> SoundQuerySet:
        return self.filter(program__station__id=station.pk if id is None else id)  # type: ignore[union-attr]

    def episode(self, episode: Episode | None = None, id: int | None = None) -> SoundQuerySet:
        return self.filter(episode__id=episode.pk if id is None else id)  # type: ignore[union-attr]

    def diffusion(self, diffusion: Diffusion | None = None, id: int | None = None) -> SoundQuerySet:
        return self.filter(episode__diffusion__id=diffusion.pk if id is None else id)  # type: ignore[union-attr]

    def available(self) -> SoundQuerySet:
        return self.exclude(type=Sound.TYPE_REMOVED)

    def public(self) -> SoundQuerySet:
        return self.filter(is_public=True)

    def archive(self) -> SoundQuerySet:
        return self.filter(type=Sound.TYPE_ARCHIVE)

    def _files(self, archive: bool, order_by: bool) -> models.QuerySet[Any, Any]:
        sounds = self.archive() if archive else self
        sounds = sounds.order_by(FILE_FIELD) if order_by else sounds
        return sounds.exclude(**{f"{FILE_FIELD}__isnull": True}).values_list(FILE_FIELD, flat=True)

    if current_shape() == "0.9":

        def paths(self, archive: bool = True, order_by: bool = True) -> models.QuerySet[Any, Any]:
            """Absolute paths, of the archives only unless told otherwise."""
            return self._files(archive, order_by)

    else:

        def path(self, paths: str | list[str]) -> SoundQuerySet:
            """The sounds of an absolute path, or of several."""
            if isinstance(paths, str):
                return self.filter(file=_below_media(paths))
            return self.filter(file__in=[_below_media(path) for path in paths])

        def playlist(self, archive: bool = True, order_by: bool = True) -> list[str]:
            """Absolute paths, of the archives only unless told otherwise."""
            return [os.path.join(settings.MEDIA_ROOT, name) for name in self._files(archive, order_by)]


class SoundFields(models.Model):
    """Everything about a sound but its file."""

    TYPE_OTHER = 0x00
    TYPE_ARCHIVE = 0x01
    TYPE_EXCERPT = 0x02
    TYPE_REMOVED = 0x03
    TYPE_CHOICES = (
        (TYPE_OTHER, "other"),
        (TYPE_ARCHIVE, "archive"),
        (TYPE_EXCERPT, "excerpt"),
        (TYPE_REMOVED, "removed"),
    )

    name = models.CharField(max_length=64)
    program = models.ForeignKey(Program, models.CASCADE, blank=True, db_index=True)
    episode = models.ForeignKey(Episode, models.SET_NULL, blank=True, null=True, db_index=True)
    type = models.SmallIntegerField(choices=TYPE_CHOICES)
    position = models.PositiveSmallIntegerField(default=0)
    duration = models.TimeField(blank=True, null=True)
    mtime = models.DateTimeField(blank=True, null=True)
    is_good_quality = models.BooleanField(blank=True, null=True)
    is_public = models.BooleanField(default=False)

    objects = SoundQuerySet.as_manager()

    class Meta:
        abstract = True

    def _file_path(self) -> str | None:
        raise NotImplementedError

    def save(self, check: bool = True, *args: Any, **kwargs: Any) -> None:
        """Nothing; with `check` the file is looked at first, and a vanished one is marked removed."""
        if self.episode is not None and self.program_id is None:
            self.program = self.episode.program
        path = self._file_path()
        if not self.name and path:
            self.name = os.path.splitext(os.path.basename(path))[0].replace("_", " ")
        if check:
            self.check_on_file()
        super().save(*args, **kwargs)

    def file_exists(self) -> bool:
        path = self._file_path()
        return path is not None and os.path.exists(path)

    def check_on_file(self) -> bool:
        """True when the look at the file changed the row; it is not saved."""
        if not self.file_exists():
            changed = self.type != self.TYPE_REMOVED
            self.type = self.TYPE_REMOVED
            return changed
        changed = self.type == self.TYPE_REMOVED
        if changed:
            self.type = self.TYPE_ARCHIVE
        mtime = datetime.fromtimestamp(int(os.stat(str(self._file_path())).st_mtime), UTC)
        if self.mtime != mtime:
            self.mtime, self.is_good_quality, changed = mtime, None, True
        return changed


if current_shape() == "0.9":

    class Sound(SoundFields):
        path = file_column()

        def __str__(self) -> str:
            # Without a path this raises: so it does in 0.9.
            return "/".join(self.path.split("/")[-3:])

        def _file_path(self) -> str | None:
            return self.path

        def url(self) -> str:
            path = self.path.replace(settings.MEDIA_ROOT, "", 1)
            return f"{settings.MEDIA_URL}{path}".replace("//", "/")

else:

    class Sound(SoundFields):  # type: ignore[no-redef]
        file = file_column()

        def __str__(self) -> str:
            return "/".join(self.file.name.split("/")[-3:])

        def _file_path(self) -> str | None:
            return self.file.path if self.file else None

        @property
        def url(self) -> str | None:
            return self.file.url if self.file else None


class Track(models.Model):
    """A piece inside a sound or an episode; `timestamp` is in seconds from the sound's start."""

    episode = models.ForeignKey(Episode, models.CASCADE, blank=True, null=True)
    sound = models.ForeignKey(Sound, models.CASCADE, blank=True, null=True)
    position = models.PositiveSmallIntegerField(default=0)
    timestamp = models.PositiveSmallIntegerField(blank=True, null=True)
    title = models.CharField(max_length=128)
    artist = models.CharField(max_length=128)
    info = models.CharField(max_length=128, blank=True, null=True)

    class Meta:
        ordering = ("position",)

    def __str__(self) -> str:
        return f"{self.artist} -- {self.title} -- {self.position}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if (self.sound is None) == (self.episode is None):
            raise ValueError(
                f"Track {self.title!r} has {'no owner' if self.sound is None else 'two owners'}. "
                "It belongs to a sound or to an episode: set exactly one."
            )
        super().save(*args, **kwargs)


def _below_media(path: str) -> str:
    return path.removeprefix(str(settings.MEDIA_ROOT).rstrip("/") + "/")
