"""Our rows in Django's admin: to be looked at. Edited are who may see which program, and rulings on labels."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import to_ms
from .models import (
    Airing,
    LabelChange,
    PlayerSession,
    ProgramAccess,
    RecordingPlay,
    Ruling,
    Session,
    SourceState,
    Stream,
)
from .pipeline import causes, labels
from .pipeline.preview import DAYS, Preview, preview


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
    actions = ["rule_on_listener"]

    @admin.action(description=_("Rule on the listener of the chosen session"), permissions=["rule"])
    def rule_on_listener(self, request: HttpRequest, chosen: QuerySet[Session]) -> HttpResponseRedirect | None:
        """Goes on to the form of a ruling. The address names the session: a key would stay in logs."""
        if len(chosen) != 1:
            self.message_user(request, _("Choose one session: a ruling is about one listener."), messages.ERROR)
            return None
        return HttpResponseRedirect(f"{reverse('admin:aircox_listen_stats_ruling_add')}?session={chosen[0].pk}")

    def has_rule_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("aircox_listen_stats.add_ruling")


@admin.register(PlayerSession)
class PlayerSessionAdmin(ReadOnlyAdmin):
    """Sessions in the web player; like those of streams without a key."""

    list_display = ["started", "ended", "live_ms", "on_demand_ms", "country", "app", "is_open", "exclusion", "rule"]
    list_filter = ["is_open", "exclusion"]
    ordering = ["-started"]
    show_full_result_count = False
    exclude = ["listener"]


@admin.register(RecordingPlay)
class RecordingPlayAdmin(ReadOnlyAdmin):
    """Plays of recordings, without the key and the visit."""

    list_display = ["started", "seen", "recording", "played_ms", "country", "app", "exclusion", "rule"]
    list_filter = ["exclusion"]
    list_select_related = ["recording"]
    ordering = ["-started"]
    show_full_result_count = False
    exclude = ["listener", "visit"]
    actions = ["rule_on_listener"]

    @admin.action(description=_("Rule on the listener of the chosen play"), permissions=["rule"])
    def rule_on_listener(self, request: HttpRequest, chosen: QuerySet[RecordingPlay]) -> HttpResponseRedirect | None:
        """Goes on to the form of a ruling, as from a session."""
        if len(chosen) != 1:
            self.message_user(request, _("Choose one play: a ruling is about one listener."), messages.ERROR)
            return None
        return HttpResponseRedirect(f"{reverse('admin:aircox_listen_stats_ruling_add')}?play={chosen[0].pk}")

    def has_rule_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("aircox_listen_stats.add_ruling")


class RulingForm(forms.ModelForm):
    """A ruling as it is made. It is never changed: it is revoked, and another one is made."""

    session = forms.IntegerField(
        required=False, label=_("session"), help_text=_("Its listener alone, on its stream; the number of a session.")
    )
    play = forms.IntegerField(
        required=False,
        label=_("play"),
        help_text=_("Its listener alone, in the web player and on every stream; the number of a play of a recording."),
    )
    exclusion = forms.ChoiceField(
        required=False,
        label=_("is to be taken for"),
        choices=[(one, one or _("a listener, who counts")) for one in labels.CHOOSABLE],
    )

    class Meta:
        model = Ruling
        fields = [
            *("session", "play", "told_exclusion", "told_rule", "app", "stream"),
            *("started", "ended", "exclusion", "reason"),
        ]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        session, play = (cleaned.get("session"), cleaned.get("play")) if cleaned else (None, None)
        if session and play:
            raise forms.ValidationError(_("A ruling is about one listener: of a session, or of a play."))
        try:
            if session:
                about = labels.about_session(session)
                self.instance.listener = about.listener
                cleaned["stream"] = about.stream
            elif play:
                self.instance.listener = labels.about_play(play).listener
        except labels.RulingRefused as error:
            raise forms.ValidationError(str(error)) from error
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors:
            try:
                labels.refuse_senseless(self.instance)
            except labels.RulingRefused as error:
                self.add_error(None, str(error))


class RevokeForm(ActionForm):
    """Beside the list's actions: why."""

    reason = forms.CharField(required=False, max_length=255, label=_("reason"))


class LabelChangeInline(admin.TabularInline):
    """The trail of a ruling."""

    model = LabelChange
    fields = readonly_fields = ["at", "by", "reason", "is_revocation", "sessions", "labels", "player_labels"]
    extra = 0
    ordering = ["pk"]
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Ruling)
class RulingAdmin(admin.ModelAdmin):
    """Who counts against what the rules say. Sessions and plays are labelled when the page is done."""

    form = RulingForm
    action_form = RevokeForm
    list_display = ["id", "made", "made_by", "told_exclusion", "told_rule", "app", "exclusion", "reason", "revoked"]
    list_filter = ["exclusion", "told_rule"]
    ordering = ["-pk"]
    inlines = [LabelChangeInline]
    actions = ["preview_revocation", "revoke"]
    add_form_template = "aircox_listen_stats/admin_ruling_add.html"

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form; asked for a preview, what the ruling would change, and the ruling to be made from there."""
        if "_preview" in request.POST and self.has_add_permission(request):
            form = self.get_form(request)(request.POST)
            if form.is_valid():
                # Names of widgets, not of fields: an instant is asked for in two.
                hidden = [(name, value) for name, value in request.POST.items() if not name.startswith(("_", "csrf"))]
                return self._show_preview(
                    request, [preview(form.instance, now_ms=_now_ms())], [*hidden, ("_save", "1")]
                )
        return super().add_view(request, form_url, extra_context)

    @admin.action(description=_("Show what revoking the chosen rulings would change"), permissions=["rule"])
    def preview_revocation(self, request: HttpRequest, chosen: QuerySet[Ruling]) -> HttpResponse:
        """Each of them by itself; revoked from there, for the reason that was typed beside the action."""
        rulings = list(chosen.filter(only_source="", revoked=None))
        hidden = [("action", "revoke"), ("reason", request.POST.get("reason", ""))]
        hidden += [("_selected_action", str(one.pk)) for one in rulings]
        would = [preview(one, is_revoked=True, now_ms=_now_ms()) for one in rulings]
        return self._show_preview(request, would, hidden)

    def _show_preview(
        self, request: HttpRequest, previews: list[Preview], hidden: list[tuple[str, str]]
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("What would change"),
            "previews": previews,
            "days": DAYS,
            "hidden": hidden,
        }
        return TemplateResponse(request, "aircox_listen_stats/admin_ruling_preview.html", context)

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return super().get_inlines(request, obj) if obj else []

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (
            [one for one in super().get_fields(request, obj) if one not in ("session", "play")]
            if obj
            else super().get_fields(request, obj)
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Ruling, form: Any, change: bool) -> None:
        obj.made_by = request.user.get_username()
        trail = labels.store(obj)
        # A day of a stream in each transaction: not in the one of this page.
        transaction.on_commit(partial(_lay, request, obj, trail))

    @admin.action(description=_("Revoke the chosen rulings"), permissions=["rule"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[Ruling]) -> None:
        """Takes them back, for the reason that was typed beside the action."""
        for ruling in chosen.filter(only_source=""):
            try:
                trail = labels.store_revocation(
                    ruling, by=request.user.get_username(), reason=request.POST.get("reason", "")
                )
            except labels.RulingRefused as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            transaction.on_commit(partial(_lay, request, ruling, trail))
            self.message_user(request, _("Ruling %(number)d is revoked.") % {"number": ruling.pk})

    def has_rule_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("aircox_listen_stats.add_ruling")


def _lay(request: HttpRequest, ruling: Ruling, trail: LabelChange) -> None:
    """Labels the sessions and plays; the notes of the figures that follow name who asked for it."""
    with causes.acting_as(request.user.get_username()):
        labels.lay(ruling, trail)


def _now_ms() -> int:
    return to_ms(timezone.now())


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
