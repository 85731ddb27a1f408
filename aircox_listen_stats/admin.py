"""Our rows in Django's admin: to be looked at. Only who may see which program is edited here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .models import Airing, ProgramAccess, Session, SourceState, Stream


class ReadOnlyAdmin(admin.ModelAdmin):
    """The collector writes; people look."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    """Streams come from the settings."""

    list_display = ["slug", "title", "station_id", "source", "delay_ms", "active"]
    list_filter = ["active", "source"]


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    """Sessions without the listener's key: there is no address to show, and the key tells nothing."""

    list_display = ["started", "ended", "stream", "country", "app", "is_open", "exclusion", "rule"]
    list_filter = ["is_open", "exclusion", "stream"]
    list_select_related = ["stream"]
    ordering = ["-started"]
    show_full_result_count = False
    exclude = ["listener"]


@admin.register(SourceState)
class SourceStateAdmin(ReadOnlyAdmin):
    """How each source does."""

    list_display = ["source", "heard", "succeeded", "failed", "failures", "error"]
    exclude = ["cursor", "census"]


@admin.register(Airing)
class AiringAdmin(ReadOnlyAdmin):
    """What was on air, and on what evidence."""

    list_display = ["started", "ended", "layer", "title", "program_title", "start_basis", "end_basis", "is_live"]
    list_filter = ["layer", "start_basis", "end_basis", "is_live", "evidence_gone"]
    search_fields = ["title", "program_title", "artist"]
    ordering = ["-started"]
    show_full_result_count = False


@admin.register(ProgramAccess)
class ProgramAccessAdmin(admin.ModelAdmin):
    """Who sees the audience of which program."""

    list_display = ["program_title", "program_id", "user", "group"]
    list_select_related = ["user", "group"]
    search_fields = ["program_title"]
    fieldsets = [
        (None, {"fields": ["program_id", "program_title"]}),
        (_("Who"), {"fields": ["user", "group"]}),
    ]
