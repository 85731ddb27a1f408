"""The stand-in's tables in the admin, as plain lists."""

from __future__ import annotations

from django.contrib import admin

from aircox import models


@admin.register(models.Station, models.Port, models.Stream, models.Schedule, models.Sound, models.Track)
class PlainAdmin(admin.ModelAdmin):
    pass


@admin.register(models.Program, models.Episode)
class PageAdmin(admin.ModelAdmin):
    list_display = ("title", "status", "pub_date")
    search_fields = ("title",)
    prepopulated_fields = {"slug": ("title",)}


@admin.register(models.Diffusion)
class DiffusionAdmin(admin.ModelAdmin):
    list_display = ("episode", "program", "type", "start", "end", "initial")
    list_filter = ("type", "program")
    date_hierarchy = "start"


@admin.register(models.Log)
class LogAdmin(admin.ModelAdmin):
    list_display = ("date", "station", "type", "source", "diffusion", "sound", "track")
    list_filter = ("type", "station")
    date_hierarchy = "date"
