"""Says who counts and who does not, against what the rules say; and takes it back."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...errors import ListenStatsError
from ...fields import from_ms
from ...models import LabelChange, Ruling
from ...pipeline import labels
from ...pipeline.preview import DAYS, Preview, preview
from . import _words
from ._writing import WritingCommand

COUNTED = "counted"

SHOWN = 50
"""Rulings that are listed, the newest."""


class Command(WritingCommand):
    help = (
        "Labels sessions and plays by a ruling: those that a rule, an app or a listener names count, or do not. A "
        "ruling holds for what is heard later too, is noted with who, when and why, and can be undone at any time. "
        "Without options the rulings are listed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--as",
            dest="as_",
            choices=[COUNTED, *(one for one in labels.CHOOSABLE if one)],
            help="what those sessions are to be taken for",
        )
        parser.add_argument("--taken-for", metavar="LABEL", default="", help="those that are labelled so, such as bot")
        parser.add_argument("--rule", metavar="RULE", default="", help="those labelled by this rule")
        parser.add_argument("--app", metavar="APP", default="", help="those of this app")
        parser.add_argument("--session", type=int, metavar="ID", help="those of the listener of this session")
        parser.add_argument("--play", type=int, metavar="ID", help="those of the listener of this play of a recording")
        parser.add_argument("--stream", metavar="SLUG", help="on this stream alone")
        parser.add_argument("--from", dest="from_", metavar="WHEN", help="those that touch the time from WHEN")
        parser.add_argument("--to", metavar="WHEN", help="and before WHEN")
        parser.add_argument("--undo", type=int, metavar="NUMBER", help="take this ruling back")
        parser.add_argument("--again", action="store_true", help="lay all rulings over their sessions again")
        parser.add_argument("--why", metavar="TEXT", default="", help="the reason; required")
        parser.add_argument("--by", metavar="NAME", help="who says so (default: the system's user)")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="label nothing; say what would change, with each figure before and after; with --undo too",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["undo"] is not None:
                self._undo(options)
            elif options["as_"]:
                self._make(options)
            elif options["again"]:
                laid = sum((labels.lay(one) for one in Ruling.objects.all()), start=labels.Laid())
                self.stdout.write(f"{_counted(laid)} labelled anew.")
            else:
                self._list()
        except ListenStatsError as error:
            raise CommandError(str(error)) from error

    def _make(self, options: dict[str, Any]) -> None:
        ruling = _about(options)
        if options["stream"]:
            ruling.stream = _words.stream(options["stream"])
        ruling.told_exclusion = options["taken_for"]
        ruling.told_rule = options["rule"]
        ruling.app = options["app"]
        ruling.started = _when(options["from_"], "--from")
        ruling.ended = _when(options["to"], "--to")
        ruling.exclusion = "" if options["as_"] == COUNTED else options["as_"]
        ruling.reason = options["why"]
        ruling.made_by = _by(options)
        if options["dry_run"]:
            self.stdout.write(f"{_counted(labels.met(ruling))} are meant. None was labelled.")
            self._preview(preview(ruling, now_ms=_words.now_ms()))
            return
        change = labels.make(ruling, now_ms=_words.now_ms())
        self.stdout.write(f"Ruling {ruling.pk} stands. To take it back: listen_stats_label --undo {ruling.pk} --why …")
        self._tell(change)

    def _undo(self, options: dict[str, Any]) -> None:
        ruling = Ruling.objects.filter(pk=options["undo"]).first()
        if ruling is None:
            raise CommandError(f"There is no ruling {options['undo']}. listen_stats_label lists them.")
        if ruling.only_source:
            raise CommandError(
                f"Ruling {ruling.pk} belongs to {ruling.only_source!r}. To take it back: listen_stats_backfill --undo "
                f"{ruling.only_source!r} --why …"
            )
        if options["dry_run"]:
            self._preview(preview(ruling, is_revoked=True, now_ms=_words.now_ms()))
            return
        self._tell(labels.revoke(ruling, by=_by(options), reason=options["why"], now_ms=_words.now_ms()))

    def _preview(self, would: Preview) -> None:
        if would.plays or would.player_sessions:
            of_players = labels.Laid(plays=would.plays, player_sessions=would.player_sessions)
            self.stdout.write(f"In the web player {_of_players(of_players)} would count or no longer count.")
        self.stdout.write(
            f"{would.sessions} sessions would count or no longer count; the figures of {len(would.changes)} diffusions "
            f"would change{'' if would.is_whole else f', and older ones than the {DAYS} days that are shown'}."
        )
        for one in would.changes:
            figures = ", ".join(f"{name} {before} → {after}" for name, before, after in one.figures)
            self.stdout.write(f"  {one.airing}: {figures or 'its curve'}")

    def _tell(self, change: LabelChange) -> None:
        laid = labels.counted_in(change)
        self.stdout.write(f"{_counted(laid)} have another label; their figures are computed again.")
        for before, rule, after, new_rule, count in change.labels:
            self.stdout.write(f"{count:>10}  {_shown(before, rule)} → {_shown(after, new_rule)}")
        for what, before, rule, after, new_rule, count in change.player_labels:
            self.stdout.write(f"{count:>10}  {_shown(before, rule)} → {_shown(after, new_rule)}, as a {what}")

    def _list(self) -> None:
        found = Ruling.objects.select_related("stream").order_by("-pk")[:SHOWN]
        for one in found:
            state = f"revoked {one.revoked:%Y-%m-%d %H:%M}" if one.revoked else "stands"
            self.stdout.write(f"{one.pk:>6}  {state}: {described(one)}. {one.made_by}: {one.reason}")
        if not found:
            self.stdout.write("There is no ruling.")


def described(ruling: Ruling) -> str:
    """What the ruling is about and what it says, in one line and without a listener's key."""
    about = [
        ("label", ruling.told_exclusion),
        ("rule", ruling.told_rule),
        ("app", ruling.app),
        ("", "" if ruling.listener is None else "one listener"),
        ("stream", ruling.stream.slug if ruling.stream else ""),
        ("from", f"{ruling.started:%Y-%m-%d %H:%M} UTC" if ruling.started else ""),
        ("to", f"{ruling.ended:%Y-%m-%d %H:%M} UTC" if ruling.ended else ""),
    ]
    told = ", ".join(f"{name} {value}".strip() for name, value in about if value)
    return f"{told} → {ruling.only_source + ' alone counts' if ruling.only_source else ruling.exclusion or COUNTED}"


def _about(options: dict[str, Any]) -> Ruling:
    """A ruling about the listener that is named by a session or a play, or about nobody yet."""
    session, play = options["session"], options["play"]
    if session is not None and play is not None:
        raise CommandError("A ruling is about one listener. Name it by --session or by --play, not by both.")
    if session is not None:
        return labels.about_session(session)
    return Ruling() if play is None else labels.about_play(play)


def _counted(laid: labels.Laid) -> str:
    sessions = f"{laid.sessions} sessions"
    return f"{sessions}, {_of_players(laid)}" if laid.plays or laid.player_sessions else sessions


def _of_players(laid: labels.Laid) -> str:
    return f"{laid.plays} plays of recordings and {laid.player_sessions} sessions in the web player"


def _shown(label: str, rule: str) -> str:
    return f"{label or COUNTED} ({rule})" if rule else label or COUNTED


def _when(text: str | None, option: str) -> Any:
    return None if text is None else from_ms(_words.instant(text, option))


def _by(options: dict[str, Any]) -> str:
    return options["by"] or getpass.getuser()
