"""Sends the letters that producers asked for: what the collector does by itself."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count

from ... import conf
from ...models import Letter
from ...pipeline import letters
from . import _words


class Command(BaseCommand):
    help = (
        "Sends the letters about diffusions that have settled to the producers who asked for them, each once. The "
        "collector does so by itself; this is for cron, and to look at what waits."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="print the letters that are due, send none")
        parser.add_argument("--retry", action="store_true", help="try those again that were given up")
        parser.add_argument(
            "--retry-doubtful", action="store_true", help="and those that perhaps arrived: they may arrive twice"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not conf.get().letters.enabled:
            raise CommandError(
                "No letters are sent: LETTERS names no site. Set it to {'site': 'https://…'} (docs/letter.md)."
            )
        if options["dry_run"]:
            self._show()
            return
        for doubtful, option in ((False, "retry"), (True, "retry_doubtful")):
            if options[option]:
                again = letters.retry(now_ms=_words.now_ms(), doubtful=doubtful)
                self._say(f"{again} are tried again.", options)
        queued = letters.queue(now_ms=_words.now_ms())
        sent = letters.send_due(clock=_words.now_ms, most=letters.MOST_WAITING)
        self._say(
            f"{queued} queued, {sent.sent} sent, {sent.failed} failed and wait, {sent.dropped} not wanted.", options
        )
        self._say(f"{sent.dead} given up, {sent.doubtful} perhaps arrived.", options)
        if sent.failed or sent.dead or sent.doubtful:
            for line in self._troubles():
                self.stderr.write(line)
            raise CommandError("Not every letter was sent: is the mail server of EMAIL_HOST well?")

    def _show(self) -> None:
        """Everything that is due or would be queued, without a recipient: that is nobody's business but hers."""
        found = list(letters.each_ready(now_ms=_words.now_ms()))
        for one in found:
            mail = one.mail(conf.get())
            self.stdout.write(f"Subject: {mail.subject}\n\n{mail.body}\n{'=' * 76}")
        self.stdout.write(f"{len(found)} would be sent.")

    def _troubles(self) -> list[str]:
        rows = Letter.objects.exclude(error="").exclude(state__in=(Letter.State.SENT, Letter.State.DROPPED))
        return [
            f"{count} {state}: {error}"
            for state, error, count in rows.values_list("state", "error")
            .annotate(Count("pk"))
            .order_by("state", "error")
        ]

    def _say(self, words: str, options: dict[str, Any]) -> None:
        if options["verbosity"]:
            self.stdout.write(words)
