"""What collecting societies want to be told: a template of columns for each.

aircox knows title and artist of a track, and no more: columns for a composer, a
label, an album or an ISRC stand empty, to be filled in by whoever knows them.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from .figures import MS_PER_HOUR
from .performances import RULE_SET, Play, Service, by_recording
from .tables import Row, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Society:
    """A template: which columns, and the public document that they stand on."""

    title: str
    stands_on: str
    header: tuple[str, ...]
    rows: Callable[[Iterable[Play], Service], Iterator[Row]]

    def table(self, name: str, plays: Iterable[Play], service: Service) -> Table:
        """The plays in the society's columns; ``service.totals`` is whole once the rows are read."""
        return Table(name=name, header=self.header, rows=self.rows(service.totals.counting(plays), service))


def _plays(plays: Iterable[Play], service: Service) -> Iterator[Row]:
    local = zoneinfo.ZoneInfo(service.period.zone)
    for play in plays:
        yield (
            play.airing_id,
            play.started.astimezone(local),
            play.started.astimezone(dt.UTC),
            _seconds(play),
            play.artist,
            play.title,
            play.program_title,
            play.performances,
            None if play.listening_ms is None else play.listening_ms / MS_PER_HOUR,
            play.coverage,
            play.settled,
            RULE_SET,
            service.period.zone,
        )


def _sound_exchange(plays: Iterable[Play], service: Service) -> Iterator[Row]:
    for one in by_recording(plays):
        performances = None if one.unknown == one.plays else one.performances
        yield service.name, service.category, one.artist, one.title, None, None, None, performances


def _sound_exchange_hours(plays: Iterable[Play], service: Service) -> Iterator[Row]:
    for one in by_recording(plays):
        yield (
            service.name, service.category, one.artist, one.title, None, None, None,
            service.tuning_hours, service.name, one.plays,
        )  # fmt: skip


def _suisa(plays: Iterable[Play], service: Service) -> Iterator[Row]:
    local = zoneinfo.ZoneInfo(service.period.zone)
    for play in plays:
        started = play.started.astimezone(local)
        yield (
            play.title, None, play.artist, None, service.name,
            f"{started:%Y%m%d}", _clock(_seconds(play)), f"{started:%H:%M:%S}",
            None, None, None, play.airing_id,
        )  # fmt: skip


def _ppl(plays: Iterable[Play], service: Service) -> Iterator[Row]:
    for _ in plays:
        pass
    period = service.period
    elapsed_hours = (period.ended_ms - period.started_ms) / MS_PER_HOUR
    tracks_an_hour = service.totals.plays / elapsed_hours
    hours = service.tuning_hours
    yield (
        service.name, period.first, period.last, tracks_an_hour, hours,
        None if hours is None else tracks_an_hour * hours,
    )  # fmt: skip


def _seconds(play: Play) -> int:
    return round((play.ended - play.started).total_seconds())


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


_REPORT_OF_USE = (
    "NAME_OF_SERVICE",
    "TRANSMISSION_CATEGORY",
    "FEATURED_ARTIST",
    "SOUND_RECORDING_TITLE",
    "ISRC",
    "ALBUM_TITLE",
    "MARKETING_LABEL",
)

SOCIETIES: Mapping[str, Society] = {
    "generic": Society(
        title="Every play",
        stands_on="37 CFR 380.7 for what a performance is; the columns are our own",
        header=(
            "airing_id", "start", "start_utc", "length_seconds", "artist", "title", "program", "performances",
            "tuning_hours", "coverage_share", "is_settled", "rule_set", "time_zone",
        ),
        rows=_plays,
    ),
    "soundexchange": Society(
        title="SoundExchange, actual total performances",
        stands_on="37 CFR 370.4(d)(2), report of use by actual total performances",
        header=(*_REPORT_OF_USE, "ACTUAL_TOTAL_PERFORMANCES"),
        rows=_sound_exchange,
    ),
    "soundexchange-ath": Society(
        title="SoundExchange, aggregate tuning hours",
        stands_on="37 CFR 370.4(d)(2), report of use by tuning hours, for those whom it allows that",
        header=(*_REPORT_OF_USE, "AGGREGATE_TUNING_HOURS", "CHANNEL_OR_PROGRAM_NAME", "PLAY_FREQUENCY"),
        rows=_sound_exchange_hours,
    ),
    "ppl": Society(
        title="PPL, webcasting report",
        stands_on="ppluk.com, Broadcast data reporting, Linear Webcast Licence: tracks an hour times listener hours",
        header=("service", "from", "to", "average_tracks_per_hour", "total_listener_hours", "performances"),
        rows=_ppl,
    ),
    "suisa": Society(
        title="SUISA, broadcast report",
        stands_on="SUISA, Gemeinsamer Tarif S, annex I, as radiorabe/suisa_sendemeldung fills it in",
        header=(
            "Titel", "Komponist", "Interpret", "Interpreten-Info", "Sender", "Sendedatum", "Sendedauer", "Sendezeit",
            "Werkverzeichnisangaben", "ISRC", "Label", "Identifikationsnummer",
        ),
        rows=_suisa,
    ),
}  # fmt: skip
"""The templates by the name under which they are asked for."""
