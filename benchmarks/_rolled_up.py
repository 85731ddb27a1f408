"""Two years of a station's roll-ups behind a month that the pipeline has computed from its sessions.

Each day has the rows of a day of that month, of the same weekday, at its own time of day: quarter-hours, shares,
distinct listeners, diffusions and their audiences. The sessions behind them are gone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any

from django.db import connection, models

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.kernel import calendar
from aircox_listen_stats.models import (
    Airing,
    Audience,
    Coverage,
    Cume,
    DayShare,
    Lease,
    QuarterHour,
    Session,
    Stream,
)
from aircox_listen_stats.reports.heard import HORIZON

ONE_DAY = dt.timedelta(days=1)
FOUR_WEEKS = 28
"""Days after which the weekdays of the month come again."""
ROUGHLY = 0.02
"""Bounds of a month's sketch on either side of its count."""
TRACK_MS = 150_000
"""How long a track is: 576 of them fill a day."""
TITLES = 5_000
"""Different titles among all tracks."""


def roll_back(first: dt.date, days: int) -> None:
    """Gives the ``days`` broadcast days before ``first`` the rows of the four weeks from ``first`` on."""
    for one in range(1, days + 1):
        day = first - one * ONE_DAY
        source = first + ((day - first).days % FOUR_WEEKS) * ONE_DAY
        begin_ms, until_ms = _starts(day), _starts(day + ONE_DAY)
        from_, to = _starts(source), _starts(source + ONE_DAY)
        window = (from_, min(to, from_ + until_ms - begin_ms))
        later_ms = begin_ms - from_
        for model in (QuarterHour, DayShare):
            _copy(model, "started >= %s AND started < %s", window, later_ms)
        _copy(Cume, "kind = 'day' AND started >= %s AND started < %s", window, later_ms)
        _copy(Airing, "layer = 'diffusion' AND started >= %s AND started < %s", window, later_ms, suffix=f"@{day}")
        _copy_audiences(window, later_ms, suffix=f"@{day}")
    begin_ms = _starts(first - days * ONE_DAY)
    Coverage.objects.update(started=from_ms(begin_ms))
    Lease.objects.create(name=HORIZON, holder="", expires=from_ms(_starts(first)), heartbeat=from_ms(_starts(first)))


def count_months(first: dt.date, months: int, rule_sets: Collection[str]) -> None:
    """Stores the month's distinct listeners, by station and stream, and the same for the months before."""
    begin_ms, end_ms = _starts(first), _starts((first + 31 * ONE_DAY).replace(day=1))
    streams = list(Stream.objects.all())
    found = Session.objects.filter(exclusion="", played_ms__gte=60_000, started__lt=end_ms, ended__gt=begin_ms)
    scopes = [("station", streams[0].station_id, found)]
    scopes += [("stream", one.pk, found.filter(stream=one)) for one in streams]
    for scope, scope_id, sessions in scopes:
        count = sessions.values("listener").distinct().count()
        month = first
        for _ in range(months):
            Cume.objects.bulk_create(
                Cume(
                    station_id=streams[0].station_id,
                    scope=scope,
                    scope_id=scope_id,
                    kind="month",
                    started=from_ms(_starts(month)),
                    rule_set=name,
                    count=count,
                    lower=round(count * (1 - ROUGHLY)),
                    upper=round(count * (1 + ROUGHLY)),
                    settled=True,
                )
                for name in rule_sets
            )
            month = (month - ONE_DAY).replace(day=1)


def play_tracks(count: int, until: dt.date) -> None:
    """``count`` tracks, one after the other, up to the start of ``until``, each with the performances of its airing."""
    last_ms = _starts(until)
    station_id = Stream.objects.values_list("station_id", flat=True)[0]
    template = Airing(
        station_id=station_id, layer="track", key="track:", started=from_ms(0), ended=from_ms(0),
        start_basis="logged", end_basis="inferred", artist="Somebody", title="Track ",
    )  # fmt: skip
    values = {
        "key": ("'track:' || n", ()),
        "title": (f"'Track ' || (n %% {TITLES})", ()),
        "started": (f"%s - (n + 1) * {TRACK_MS}", (last_ms,)),
        "ended": (f"%s - n * {TRACK_MS}", (last_ms,)),
    }
    numbers = (
        "WITH RECURSIVE counted(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM counted WHERE n + 1 < %s)"
    )
    _insert(Airing, template, values, f"{numbers} SELECT {{values}} FROM counted", [count])
    played = Audience(
        rule_set="all", listening_ms=9_000_000, sessions=60, listeners=60, peak=61, at_start=58, at_end=59,
        inherited=58, joined=2, left=1, kept=59, stayed=57, coverage=1.0, settled=True, version=1,
        computed=from_ms(last_ms),
    )  # fmt: skip
    values = {"airing_id": ("a.id", ()), "listeners": ("40 + a.id %% 60", ())}
    _insert(Audience, played, values, f"SELECT {{values}} FROM {_table(Airing)} a WHERE a.layer = 'track'", [])


def _starts(day: dt.date) -> int:
    settings = conf.get()
    return calendar.day_start(day, settings.zone, settings.broadcast_day_start)


def _copy(model: type[models.Model], where: str, window: tuple[int, int], later_ms: int, suffix: str = "") -> None:
    """The rows of the window once more, every instant ``later_ms`` later."""
    columns = [one for one in model._meta.concrete_fields if not one.primary_key]
    told = [_moved(one, later_ms, suffix) for one in columns]
    _execute(
        f"INSERT INTO {_table(model)} ({_names(columns)}) SELECT {', '.join(told)} FROM {_table(model)} WHERE {where}",
        window,
    )


def _copy_audiences(window: tuple[int, int], later_ms: int, suffix: str) -> None:
    columns = [one for one in Audience._meta.concrete_fields if not one.primary_key]
    told = ["b.id" if one.column == "airing_id" else _moved(one, later_ms, "", "f.") for one in columns]
    _execute(
        f"INSERT INTO {_table(Audience)} ({_names(columns)}) SELECT {', '.join(told)} FROM {_table(Airing)} a"
        f" JOIN {_table(Airing)} b ON b.station_id = a.station_id AND b.layer = a.layer AND b.key = a.key || '{suffix}'"
        f" JOIN {_table(Audience)} f ON f.airing_id = a.id"
        " WHERE a.layer = 'diffusion' AND a.started >= %s AND a.started < %s",
        window,
    )


INSTANTS = frozenset({"started", "ended", "peak_at", "scheduled_start", "scheduled_end", "computed"})


def _moved(column: models.Field[Any, Any], later_ms: int, suffix: str, prefix: str = "") -> str:
    name = f"{prefix}{connection.ops.quote_name(column.column)}"
    if column.column in INSTANTS:
        return f"{name} + {later_ms}"
    return f"{name} || '{suffix}'" if column.column == "key" else name


def _insert(
    model: type[models.Model],
    template: models.Model,
    values: dict[str, tuple[str, tuple[Any, ...]]],
    select: str,
    before: list[Any],
) -> None:
    """Rows like the template, some of whose columns are SQL of their own."""
    columns = [one for one in model._meta.concrete_fields if not one.primary_key]
    told, given = [], []
    for one in columns:
        sql, parameters = values.get(one.column, ("%s", None))
        if parameters is None:
            value = one.get_db_prep_save(getattr(template, one.attname), connection)
            parameters = (value,)
            sql = f"CAST(%s AS {one.db_type(connection)})"
        told.append(sql)
        given += parameters
    _execute(
        f"INSERT INTO {_table(model)} ({_names(columns)}) {select.format(values=', '.join(told))}", [*before, *given]
    )


def _names(columns: Collection[models.Field[Any, Any]]) -> str:
    return ", ".join(connection.ops.quote_name(one.column) for one in columns)


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _execute(sql: str, parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
