"""The public pages: what is on air, the day, the programs and their episodes."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from django.views.generic import DetailView, ListView, TemplateView

from aircox.models import Diffusion, Episode, Log, Program, Station

# Diffusions on a program's page, rows on the page of logs: a screen or two of each.
DIFFUSIONS_SHOWN = 20
LOGS_SHOWN = 100
# A track row has no end: older than this, it says nothing about now.
TRACK_TRUSTED = timedelta(minutes=15)


class StationMixin:
    """Context that every page of aircox has."""

    request: Any

    @property
    def station(self) -> Station:
        station = getattr(self.request, "station", None)
        if station is None:
            raise Http404("No station yet: make one in the admin.")
        return station

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        kwargs.setdefault("station", self.station)
        kwargs.setdefault("audio_streams", self.station.streams)
        kwargs.setdefault("has_sidebar", False)
        return super().get_context_data(**kwargs)  # type: ignore[misc]


class HomeView(StationMixin, TemplateView):
    template_name = "aircox/home.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        now = timezone.now()
        on_air = current_diffusion(self.station, now)
        return super().get_context_data(
            now=now,
            on_air=on_air,
            track=None if on_air else current_track(self.station, now),
            diffusions=diffusions_of(self.station, timezone.localdate(now)),
            programs=Program.objects.station(self.station).active().published().order_by("title"),
            **kwargs,
        )


class DayView(StationMixin, TemplateView):
    template_name = "aircox/day.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        day = self._day()
        return super().get_context_data(
            now=timezone.now(),
            day=day,
            day_before=day - timedelta(days=1),
            day_after=day + timedelta(days=1),
            diffusions=diffusions_of(self.station, day),
            **kwargs,
        )

    def _day(self) -> date:
        asked = self.request.GET.get("date")
        if not asked:
            return timezone.localdate()
        try:
            return date.fromisoformat(asked)
        except ValueError as error:
            raise Http404(f"{asked!r} is no date; write it as 2026-01-31.") from error


class ProgramListView(StationMixin, ListView):
    template_name = "aircox/program_list.html"
    context_object_name = "programs"

    def get_queryset(self) -> QuerySet[Program]:
        return Program.objects.station(self.station).active().published().order_by("title")


class ProgramView(StationMixin, DetailView):
    template_name = "aircox/program_detail.html"
    context_object_name = "page"

    def get_queryset(self) -> QuerySet[Program]:
        return Program.objects.station(self.station).published()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        diffusions = Diffusion.objects.program(self.object).on_air().before()
        recent = diffusions.select_related("episode", "program").order_by("-start")
        return super().get_context_data(diffusions=recent[:DIFFUSIONS_SHOWN], **kwargs)


class EpisodeView(StationMixin, DetailView):
    template_name = "aircox/episode_detail.html"
    context_object_name = "page"

    def get_queryset(self) -> QuerySet[Episode]:
        return Episode.objects.station(self.station).published()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            parent=self.object.program,
            diffusions=self.object.diffusion_set.on_air().order_by("start"),
            podcasts=self.object.sound_set.available().public().order_by("position", "pk"),
            tracks=self.object.track_set.all(),
            **kwargs,
        )


class LogListView(StationMixin, TemplateView):
    template_name = "aircox/log_list.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        tracks = Log.objects.station(self.station).on_air().with_track().select_related("track")
        diffusions = Diffusion.objects.station(self.station).select_related("episode", "program")
        merged = Log.merge_diffusions(list(tracks.order_by("-date")[:LOGS_SHOWN]), diffusions, LOGS_SHOWN)
        return super().get_context_data(logs=merged, **kwargs)


def current_diffusion(station: Station, now: datetime) -> Diffusion | None:
    """The diffusion that runs; of several, the one that started last."""
    running = Diffusion.objects.station(station).on_air().now(now)
    return running.select_related("episode", "program").order_by("-start").first()


def current_track(station: Station, now: datetime) -> Log | None:
    """The row of the last track that went on air, None when it is old."""
    tracks = Log.objects.station(station).on_air().with_track().select_related("track")
    return tracks.filter(date__range=(now - TRACK_TRUSTED, now)).order_by("-date").first()


def diffusions_of(station: Station, day: date) -> QuerySet[Diffusion]:
    """The diffusions for the air that touch a day, in order."""
    touching = Diffusion.objects.station(station).on_air().date(day)
    return touching.select_related("episode", "program")
