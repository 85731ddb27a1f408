"""Old logs become sessions: once, whatever is interrupted, repeated or rotated."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from aircox_listen_stats import conf
from aircox_listen_stats.errors import SourceUnavailable
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.kernel import calendar, sessionize
from aircox_listen_stats.kernel.types import ConnectionSpan, ListenerMark
from aircox_listen_stats.models import (
    LONG_SESSION_MS,
    Blur,
    Connection,
    Coverage,
    ImportedLog,
    Session,
    StaleWindow,
    Stream,
)
from aircox_listen_stats.pipeline import bulk, import_reading, importing, recognise
from aircox_listen_stats.pipeline.blurs import SHARED_ADDRESS
from aircox_listen_stats.pipeline.blurs import of_sessions as derive
from aircox_listen_stats.pipeline.secrets import Secrets
from aircox_listen_stats.reports.blurs import Reason, reasons
from aircox_listen_stats.sources import logfile
from aircox_listen_stats.sources.accesslog import LogFile
from aircox_listen_stats.sources.logfile import BlockLog
from tests.sources.recording import FOLDER, MOUNTS, MS

pytestmark = pytest.mark.django_db

STATION = {
    "STREAMS": {slug: {"source": "icecast", "mount": mount} for mount, slug in MOUNTS.items()},
    "SOURCES": {"icecast": {"backend": "icecast", "url": "http://127.0.0.1:8000", "password": "x"}},
    "TIME_ZONE": "Europe/Brussels",
}
NOW_MS = 1_795_400_000_000
BEGIN_S = 1_795_312_000 - 30 * 86400
RECORDED = FOLDER / "icecast_access.log"


@pytest.fixture(autouse=True)
def station() -> Iterator[None]:
    with override_settings(AIRCOX_LISTEN_STATS=STATION):
        for slug in MOUNTS.values():
            Stream.objects.create(slug=slug, station_id=1, source="icecast")
        yield


def run(*paths: Path, **plan: Any) -> importing.Imported:
    mounts = plan.pop("mounts", MOUNTS)
    plan = {"source": "import", **plan}
    return importing.run([BlockLog(path) for path in paths], importing.Plan(mounts=mounts, **plan), now_ms=NOW_MS)


def stored(**wanted: Any) -> list[tuple[Any, ...]]:
    """Every session without its key, which differs from run to run."""
    return sorted(
        (one.stream.slug, to_ms(one.started), to_ms(one.ended), one.played_ms, json.dumps(one.parts), one.app)
        for one in Session.objects.filter(**wanted).select_related("stream")
    )


def written(path: Path, lines: list[tuple[int, int, str, str]], agent: str = "VLC/3.0.20") -> Path:
    """A log of (start, seconds, ip, mount), in the order of the ends as Icecast writes it."""
    text = []
    for start_s, seconds, ip, mount in sorted(lines, key=lambda one: one[0] + one[1]):
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(start_s + seconds))
        text.append(f'{ip} - - [{stamp}] "GET {mount} HTTP/1.1" 200 5000 "-" "{agent}" {seconds}\n')
    data = "".join(text).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def history(count: int, seed: int = 1, days: int = 3, begin_s: int = BEGIN_S) -> list[tuple[int, int, str, str]]:
    """Listeners who come back, reconnect and overlap; some stay for more than a day."""
    chance = random.Random(seed)
    lines = []
    for _ in range(count):
        seconds = chance.choice([0, 5, 60, 600, 3600, 9000])
        if chance.random() < 0.02:
            seconds = 90_000 + chance.randrange(40_000)
        start_s = begin_s + chance.randrange(days * 86400)
        ip = f"198.18.{chance.randrange(4)}.{chance.randrange(count // 40 + 2)}"
        lines.append((start_s, seconds, ip, chance.choice(["/live.mp3", "/low.mp3"])))
    return lines


def whole(lines: list[tuple[int, int, str, str]]) -> list[tuple[Any, ...]]:
    """The sessions of the lines, stitched in one piece by the kernel."""
    import numpy as np

    found = []
    for mount, slug in MOUNTS.items():
        mine = [one for one in lines if one[3] == mount]
        people = {ip: number for number, ip in enumerate(sorted({one[2] for one in mine}))}
        columns = sessionize.stitch_columns(
            np.array([people[one[2]] for one in mine], dtype=np.int64),
            np.array([one[0] * MS for one in mine], dtype=np.int64),
            np.array([(one[0] + one[1]) * MS for one in mine], dtype=np.int64),
            gap_ms=300 * MS,
        )
        found += [
            (slug, start, end, played)
            for start, end, played in zip(
                columns.started_ms.tolist(), columns.ended_ms.tolist(), columns.played_ms.tolist(), strict=True
            )
        ]
    return sorted(found)


# What is kept ----------------------------------------------------------------------------------------


def test_the_recorded_log_becomes_its_sessions_and_every_line_is_accounted_for() -> None:
    imported = run(RECORDED)
    counts = dict(imported.counts)
    assert counts.pop("read") == len(RECORDED.read_bytes().splitlines())
    assert sum(counts.values()) == len(RECORDED.read_bytes().splitlines())
    assert counts["kept"] == 64
    assert counts["refused_cut"] == 1
    assert imported.sessions == Session.objects.count() > 40
    assert sum(Session.objects.values_list("played_ms", flat=True)) > 0
    assert set(Session.objects.values_list("source", flat=True)) == {"import"}
    assert not Session.objects.filter(is_open=True).exists()


def test_coverage_and_stale_windows_follow_the_log() -> None:
    run(RECORDED)
    spans = {
        (one.stream.slug, to_ms(one.started), to_ms(one.ended)) for one in Coverage.objects.select_related("stream")
    }
    assert spans == {(slug, 1_795_312_122_000, 1_795_312_838_000) for slug in MOUNTS.values()}
    windows = StaleWindow.objects.filter(kind=StaleWindow.AUDIENCE)
    first, last = min(one.started for one in windows), max(one.ended for one in windows)
    assert first < min(one.started for one in Session.objects.all())
    assert last > max(one.ended for one in Session.objects.all())


def test_the_ledger_holds_no_address_no_path_and_no_secret_after_the_end(tmp_path: Path) -> None:
    run(written(tmp_path / "access.log.1", history(50)))
    row = ImportedLog.objects.get()
    assert row.secret is None
    assert row.finished is not None
    assert row.offset == row.size == (tmp_path / "access.log.1").stat().st_size
    told = json.dumps([row.state, row.counts, row.label, row.fingerprint])
    assert "198.18" not in told
    assert str(tmp_path) not in told


def test_keys_change_with_the_broadcast_day_and_stay_within_it(tmp_path: Path) -> None:
    """04:00 in Brussels is 02:00 UTC in summer time; the day of a session is that of its start."""
    four = 1_792_897_200  # 2026-10-25 03:00 UTC: 04:00 in Brussels on the day of 25 hours
    lines = [(four + at, 60, "192.0.2.7", "/live.mp3") for at in (-90_000 + 10, -3600, -600, 0, 40_000, 86_000, 86_400)]
    run(written(tmp_path / "log", lines))
    keys = [one.listener for one in Session.objects.order_by("started")]
    assert len(keys) == 7
    day = [
        keys[0] == keys[1],
        keys[1] == keys[2],
        keys[2] == keys[3],
        keys[3] == keys[4],
        keys[4] == keys[5],
        keys[5] == keys[6],
    ]
    assert day == [True, True, False, True, True, False]


# Chunks, order, bounds -------------------------------------------------------------------------------


@pytest.mark.parametrize("flush_rows", [1, 37, 500, 10**9])
def test_cutting_into_chunks_changes_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush_rows: int
) -> None:
    """Long ones that begin before what was written long ago included; order of starts is not order of lines."""
    monkeypatch.setattr(import_reading, "FLUSH_ROWS", flush_rows)
    monkeypatch.setattr(logfile, "BLOCK_BYTES", 2000)
    lines = history(700)
    assert any(seconds > 86_400 for _, seconds, _, _ in lines)
    run(written(tmp_path / "log", lines))
    assert [one[:4] for one in stored()] == whole(lines)


def test_rotated_logs_in_any_order_are_one_log(tmp_path: Path) -> None:
    lines = sorted(history(600, seed=3), key=lambda one: one[0] + one[1])
    paths = [tmp_path / "access.log", tmp_path / "access.log.1.gz", tmp_path / "access.log.2"]
    for path, some in zip(paths, (lines[400:], lines[200:400], lines[:200]), strict=True):
        written(path, some)
    run(*paths)
    assert [one[:4] for one in stored()] == whole(lines)
    ends = [(one[0] + one[1]) * MS for one in lines]
    assert {(to_ms(one.started), to_ms(one.ended)) for one in Coverage.objects.all()} == {(min(ends), max(ends))}
    assert ImportedLog.objects.filter(secret=None).count() == 3


def test_two_servers_logs_of_the_same_hours_are_both_kept(tmp_path: Path) -> None:
    one, other = history(200, seed=5), history(200, seed=6)
    run(written(tmp_path / "a.log", one), written(tmp_path / "b.log", other))
    assert [each[:4] for each in stored()] == whole([*one, *other])


# Line by line ----------------------------------------------------------------------------------------


ODD_AGENTS = (
    "VLC/3.0.20",
    "V.L.C/3 020",  # by letters and digits the same as the one before
    'Radio \\"Station\\" App/2',
    'Radio "Station" App/2',
    "R\xe9cepteur \x01\xff",
    "back\\slash",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "UptimeKuma/1.23",
    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "-",
    "",
    "x" * 300,
)
ODD_IPS = (
    *(f"198.18.0.{number}" for number in range(12)),
    "203.0.113.9",
    "::ffff:203.0.113.9",
    "2001:db8::7",
    "2001:0db8:0::7",
    "2001:DB8::7",
)


def nasty(path: Path, count: int, seed: int) -> Path:
    """A log of few listeners with many odd lines: everything that the sweeps leave to the line parser."""
    chance = random.Random(seed)
    lines = []
    for _ in range(count):
        seconds = chance.choice([0, 0, 3, 8, 40, 300, 301, 4000, 90_000])
        end_s = BEGIN_S + chance.randrange(2 * 86400) + (100_000 if seconds > 4000 else 0)
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(end_s))
        mount = chance.choice(["/live.mp3"] * 4 + ["/low.mp3", "/low.mp3?token=1", "/other.mp3", "/live.mp3.m3u"])
        text = (
            f'{chance.choice(ODD_IPS)} - {chance.choice(["-"] * 9 + ["a user"])} [{stamp}] "GET {mount} HTTP/1.1" '
            f'{chance.choice([200] * 9 + [206, 404])} {chance.choice([0, 5000, 70_000, 10**9])} "-" '
            f'"{chance.choice(ODD_AGENTS)}" {seconds}'
        ).encode("latin-1")
        if chance.random() < 0.02:
            text = text[: chance.randrange(len(text))]
        lines.append((end_s, text + chance.choice([b""] * 30 + [b"\r", b"\0"])))
    path.write_bytes(b"".join(text + b"\n" for _, text in sorted(lines, key=lambda one: one[0])))
    return path


def line_by_line(path: Path, settings: conf.Settings) -> Counter[tuple[tuple[Any, ...], ...]]:
    """The rows of each key, as parser, recognition and stitching give them for one line and one listener at a time."""
    heard: dict[tuple[str, int], list[tuple[int, int, ListenerMark]]] = {}
    slugs = sorted(set(MOUNTS.values()))
    for chunk in LogFile(path).chunks(MOUNTS):
        for start_ms, end_ms, stream, who in zip(
            chunk.started_ms, chunk.ended_ms, chunk.stream, chunk.who, strict=True
        ):
            mark = recognise.mark(chunk.addresses[who], Secrets(current=b"s" * 32), slugs[stream])
            heard.setdefault((slugs[stream], mark.listener), []).append((start_ms, end_ms, mark))
    rows: dict[tuple[int, int, int], list[tuple[Any, ...]]] = {}
    for (slug, listener), lines in heard.items():
        lines.sort(key=lambda one: one[:2])
        spans = sessionize.stitch(
            [
                ConnectionSpan(key=f"{number:06d}", started_ms=start_ms, seen_ms=end_ms, is_open=False)
                for number, (start_ms, end_ms, _) in enumerate(lines)
            ]
        )
        for span in spans:
            mark = lines[int(span.keys[0])][2]
            parts = [[start - span.started_ms, end - span.started_ms] for start, end in span.parts]
            period = calendar.period_start(
                span.started_ms, settings.key_rotation, settings.zone, settings.broadcast_day_start
            )
            rows.setdefault((listener, span.lane, period), []).append(
                (
                    slug, span.started_ms, span.ended_ms, span.played_ms, json.dumps(parts) if len(parts) > 1 else "",
                    span.ended_ms - span.started_ms > LONG_SESSION_MS,
                    mark.country, mark.app, mark.exclusion, mark.rule,
                )
            )  # fmt: skip
    return Counter(tuple(sorted(some)) for some in rows.values())


def by_key() -> Counter[tuple[tuple[Any, ...], ...]]:
    """The stored rows of each key."""
    rows: dict[int, list[tuple[Any, ...]]] = {}
    for one in Session.objects.select_related("stream"):
        assert (one.source, one.is_open) == ("import", False)
        rows.setdefault(one.listener, []).append(
            (
                one.stream.slug, to_ms(one.started), to_ms(one.ended), one.played_ms,
                json.dumps(one.parts) if one.parts else "", one.is_long,
                one.country, one.app, one.exclusion, one.rule,
            )
        )  # fmt: skip
    return Counter(tuple(sorted(some)) for some in rows.values())


@pytest.mark.parametrize(("seed", "flush_rows", "is_apart"), [(1, 40, False), (2, 10**9, False), (3, 300, True)])
def test_the_rows_are_those_of_the_path_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, flush_rows: int, is_apart: bool
) -> None:
    """Stitched, recognised and labelled alike, whatever the lines, and by a process of its own too."""
    monkeypatch.setattr(import_reading, "FLUSH_ROWS", flush_rows)
    monkeypatch.setattr(logfile, "BLOCK_BYTES", 20_000)
    if is_apart:
        monkeypatch.setattr(logfile, "OWN_PROCESS_BYTES", 0)
        monkeypatch.setattr(logfile, "STARTING_BYTES", 5000)
    # Else an agent gets the app of one that is the same by its letters.
    monkeypatch.setattr(recognise._Marks, "get", lambda *_: None)
    exclude = {"staff_networks": ["203.0.113.0/24"], "monitor_agents": ["UptimeKuma"]}
    streams = {**STATION["STREAMS"], "low": {**STATION["STREAMS"]["low"], "relays": ["198.18.0.3"]}}
    with override_settings(AIRCOX_LISTEN_STATS={**STATION, "STREAMS": streams, "EXCLUDE": exclude}):
        path = nasty(tmp_path / "log", 3000, seed)
        imported = run(path)
        expected = line_by_line(path, conf.get())
        assert by_key() == expected
        counts: Counter[str] = Counter()
        for chunk in LogFile(path).chunks(MOUNTS):
            counts.update(chunk.counts)
        assert +imported.counts == +counts
    labels = {(row[7], row[8]) for rows in expected for row in rows}
    assert {reason for _, reason in labels} == {"", "bot", "monitor", "staff", "relay"}
    assert max(len(json.loads(row[4] or "[]")) for rows in expected for row in rows) > 1
    assert counts["refused_malformed"] > 10
    assert counts["kept"] > 1500


def out_of_order(path: Path) -> int:
    """A log in which some lines stand days behind their time; how many of those are listening."""
    lines = sorted(history(600, days=9), key=lambda one: one[0] + one[1])
    late = [one for one in lines[:300] if one[1] <= 86_400][::10]
    early = [one for one in lines if one not in late]
    written(path, early)
    written(path.with_name("late"), late)
    path.write_bytes(path.read_bytes() + path.with_name("late").read_bytes())
    return len(late)


@pytest.mark.parametrize("flush_rows", [20, 10**9])
def test_lines_that_are_out_of_order_by_more_than_a_day_are_told_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush_rows: int
) -> None:
    """What they belong to may be stored already. How much is stored at once does not matter."""
    monkeypatch.setattr(import_reading, "FLUSH_ROWS", flush_rows)
    monkeypatch.setattr(logfile, "BLOCK_BYTES", 2000)
    late = out_of_order(tmp_path / "log")
    imported = run(tmp_path / "log")
    assert imported.counts["refused_late"] == late > 20
    assert sum(count for name, count in imported.counts.items() if name != "read") == imported.counts["read"] == 600
    lines = sorted(history(600, days=9), key=lambda one: one[0] + one[1])
    refused = [one for one in lines[:300] if one[1] <= 86_400][::10]
    assert [one[:4] for one in stored()] == whole([one for one in lines if one not in refused])


# Again -------------------------------------------------------------------------------------------------


def test_the_same_log_twice_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "log", history(200))
    run(path)
    before = list(Session.objects.order_by("pk").values())
    copy = tmp_path / "another-name.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    for again in (path, copy):
        imported = run(again)
        assert imported.already == [again.name]
        assert imported.sessions == 0
    assert list(Session.objects.order_by("pk").values()) == before


def test_one_log_under_two_names_in_one_run_counts_once(tmp_path: Path) -> None:
    path = written(tmp_path / "log", history(100))
    (tmp_path / "copy").write_bytes(path.read_bytes())
    (tmp_path / "older").write_bytes(path.read_bytes()[:4000])
    imported = run(path, tmp_path / "copy", tmp_path / "older")
    assert len(imported.already) == 2
    assert [one[:4] for one in stored()] == whole(history(100))


def test_a_log_that_has_grown_gives_its_new_part_alone(tmp_path: Path) -> None:
    first = [(BEGIN_S + n * 1000, 60, f"192.0.2.{n}", "/live.mp3") for n in range(20)]
    second = [(BEGIN_S + n * 1000, 60, f"192.0.2.{n}", "/live.mp3") for n in range(20, 35)]
    path = written(tmp_path / "log", first)
    text = path.read_bytes()
    path.write_bytes(text + b"192.0.2.99 - - [22/Nov/2026:01:5")  # a line that is being written
    assert run(path).sessions == 20
    written(path, [*first, *second])
    imported = run(path)
    assert (imported.sessions, imported.counts["read"]) == (15, 15)
    older = tmp_path / "older"
    older.write_bytes(text)
    assert run(older).sessions == 0
    assert [one[:4] for one in stored()] == whole([*first, *second])


def test_another_log_that_begins_with_the_same_line_is_another_log(tmp_path: Path) -> None:
    same = (BEGIN_S, 5, "127.0.0.1", "/live.mp3")
    one = written(tmp_path / "a", [same, *((BEGIN_S + n * 999, 60, "192.0.2.1", "/live.mp3") for n in range(1, 9))])
    other = written(tmp_path / "b", [same, *((BEGIN_S + n * 999, 61, "192.0.2.2", "/live.mp3") for n in range(1, 12))])
    run(one)
    assert run(other).counts["kept"] == 12
    assert run(one, other).already == ["a", "b"]


def test_a_stream_that_was_added_later_is_imported_from_the_same_log(tmp_path: Path) -> None:
    path = written(tmp_path / "log", history(200))
    run(path, mounts={"/live.mp3": "live"})
    assert set(Session.objects.values_list("stream__slug", flat=True)) == {"live"}
    run(path)
    assert [one[:4] for one in stored()] == whole(history(200))


def test_a_dry_run_counts_and_stores_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "log", history(200))
    told = run(path, dry_run=True)
    assert not Session.objects.exists()
    assert not ImportedLog.objects.exists()
    assert not Coverage.objects.exists()
    assert run(path).sessions == told.sessions == len(whole(history(200)))


# Interrupted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [0, 1, 2, 5])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    monkeypatch.setattr(import_reading, "FLUSH_ROWS", 50)
    monkeypatch.setattr(logfile, "BLOCK_BYTES", 2000)
    lines = sorted(history(700, days=9), key=lambda one: one[0] + one[1])
    paths = [written(tmp_path / "a", lines[:350]), written(tmp_path / "b.gz", lines[350:])]
    insert, calls = bulk.Rows.insert, [0]

    def dying(sessions: bulk.Rows) -> None:
        insert(sessions)
        calls[0] += 1
        if calls[0] > when * 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(bulk.Rows, "insert", dying)
        with pytest.raises(KeyboardInterrupt):
            run(*paths)
    assert ImportedLog.objects.exclude(secret=None).exists()
    run(*paths)
    assert [one[:4] for one in stored()] == whole(lines)
    assert not ImportedLog.objects.exclude(secret=None).exists()
    assert run(*paths).sessions == 0


# Beside other sources ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_only_the_end_of_a_log_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes back the ledger with what it tells of; a secret that was destroyed stays so."""
    waited: list[tuple[bool, str]] = []
    note = importing.Run._note

    def noting(self: importing.Run, step: Any) -> None:
        note(self, step)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SHOW synchronous_commit")
                (how,) = cursor.fetchone()
                waited.append((bool(step.finished), how))

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = on")  # which a server of tests has not
    monkeypatch.setattr(importing.Run, "_note", noting)
    monkeypatch.setattr(import_reading, "FLUSH_ROWS", 100)
    imported = run(written(tmp_path / "access.log", history(1000)))
    connection.close()
    assert imported.sessions == Session.objects.count() > 500
    if connection.vendor == "postgresql":
        assert set(waited) == {(False, "off"), (True, "on")}
        assert waited[-1] == (True, "on")


def other_session(start_s: int, seconds: int, *, is_open: bool = False, stream: str = "live") -> Session:
    return Session.objects.create(
        stream=Stream.objects.get(slug=stream),
        listener=5,
        started=from_ms(start_s * MS),
        ended=from_ms((start_s + seconds) * MS),
        played_ms=seconds * MS,
        is_open=is_open,
        source="icecast",
    )


LOG = [(BEGIN_S + n * 1000, 600, f"192.0.2.{n}", "/live.mp3") for n in range(10)]


def test_listening_that_another_source_told_of_is_not_counted_twice(tmp_path: Path) -> None:
    other_session(BEGIN_S + 3000, 600)
    with pytest.raises(importing.ImportRefused, match="--replace"):
        run(written(tmp_path / "log", LOG))
    assert Session.objects.count() == 1
    assert run(tmp_path / "log", to_ms=(BEGIN_S + 3000) * MS).sessions == 3


def test_replace_puts_the_log_in_the_place_of_what_ended_while_it_was_written(tmp_path: Path) -> None:
    gone = [other_session(BEGIN_S + n * 1000, 590) for n in range(1, 9)]
    early, late = other_session(BEGIN_S - 9000, 8000), other_session(BEGIN_S + 20_000, 60)
    across, still = other_session(BEGIN_S + 5000, 9000), other_session(BEGIN_S + 5000, 10, is_open=True)
    else_where = other_session(BEGIN_S + 1000, 600, stream="low")
    socket = {"source": "icecast", "listener": 5, "started": gone[0].started, "seen": gone[0].ended, "ended": True}
    Connection.objects.create(key="1@1", stream=gone[0].stream, session=gone[0], **socket)
    Connection.objects.create(key="2@1", stream=late.stream, session=late, **socket)
    imported = run(written(tmp_path / "log", LOG), mounts={"/live.mp3": "live"}, replace=True)
    assert (imported.replaced, imported.straddling, imported.sessions) == (8, 2, 10)
    left = set(Session.objects.filter(source="icecast").values_list("pk", flat=True))
    assert left == {early.pk, late.pk, across.pk, still.pk, else_where.pk}
    assert list(Connection.objects.values_list("key", flat=True)) == ["2@1"]
    assert run(tmp_path / "log", mounts={"/live.mp3": "live"}, replace=True).sessions == 0
    assert Session.objects.filter(source="import").count() == 10


def test_a_window_takes_what_ends_in_it_and_the_rest_can_follow(tmp_path: Path) -> None:
    path = written(tmp_path / "log", LOG)
    border = (BEGIN_S + 4600) * MS  # the fifth ends here
    first = run(path, to_ms=border)
    assert (first.sessions, first.outside) == (4, 6)
    with pytest.raises(importing.ImportRefused, match="imported from"):
        run(path)
    assert run(path, from_ms=border).sessions == 6
    assert [one[:4] for one in stored()] == whole(LOG)


def test_an_unknown_stream_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(importing.ImportRefused, match="'nowhere'"):
        run(written(tmp_path / "log", LOG), mounts={"/live.mp3": "nowhere"})


# The command -----------------------------------------------------------------------------------------


def test_an_unreadable_log_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        BlockLog(tmp_path / "missing.log")
    assert str(tmp_path) not in str(caught.value)


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("listen_stats_import", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def default_station() -> None:
    from aircox.models import Station

    Station.objects.create(pk=1, name="Radio Example", slug="example", default=True)


@pytest.mark.usefixtures("default_station")
def test_the_command_tells_what_became_of_every_line() -> None:
    told = command(str(RECORDED))
    assert "328 lines read, 64 kept." in told
    assert "1 refused: cut 1." in told
    assert "263 skipped: admin page 212, method 3, nothing sent 1, other mount 1, page 10" in told
    assert "sessions stored" in told
    assert "nothing new, imported before" in command(str(RECORDED))


@pytest.mark.usefixtures("default_station")
def test_the_command_maps_mounts_and_takes_local_times(tmp_path: Path) -> None:
    path = written(tmp_path / "log", [(one[0], one[1], one[2], "/alt") for one in LOG])
    told = command(str(path), "--stream", "ogg=/alt", "--to", "2026-10-23T07:00", "--dry-run")
    assert "would be stored" in told
    command(str(path), "--stream", "ogg=/alt", "--source", "old logs")
    assert set(Session.objects.values_list("stream__slug", "source")) == {("ogg", "old logs")}


@pytest.mark.usefixtures("default_station")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stream", "nowhere=/x"], "Unknown stream 'nowhere'"),
        (["--stream", "live=x"], "names no mount"),
        (["--stream", "live=/x", "--stream", "ogg=/x"], "two streams"),
        (["--from", "yesterday"], "--from is 'yesterday'"),
        (["--source", "icecast"], "would be counted twice"),
    ],
)
def test_the_command_refuses_with_what_to_write_instead(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        command(str(RECORDED), *arguments)
    with pytest.raises(CommandError, match=r"'nothing\.log' cannot be read"):
        command("nothing.log")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("default_station")
def test_a_killed_import_goes_on_where_it_stopped(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """kill -9 in the middle of the writing, then the same command again."""
    lines = history(60_000, days=40, seed=9)
    path = written(tmp_path / "log", lines)
    script = (
        "import sys, django; django.setup()\n"
        "from django.test import override_settings\n"
        "from django.core.management import call_command\n"
        "from aircox_listen_stats.pipeline import import_reading\n"
        "import_reading.FLUSH_ROWS = 2000\n"
        f"with override_settings(AIRCOX_LISTEN_STATS={STATION!r}):\n"
        "    call_command('listen_stats_import', *sys.argv[1:], verbosity=0)\n"
    )
    kills = 0
    for _ in range(20):
        before = Session.objects.count()
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], env=child_environment)
        until = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < until and kills < 3:
            if Session.objects.count() > before + 5000 * kills:
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        if child.wait(timeout=120) == 0:
            break
    assert kills >= 1
    assert child.returncode == 0
    assert [one[:4] for one in stored()] == whole(lines)
    assert not ImportedLog.objects.exclude(secret=None).exists()


def test_a_hundred_thousand_lines_take_a_few_seconds(tmp_path: Path) -> None:
    lines = history(100_000, days=60, seed=11)
    path = written(tmp_path / "log", lines)
    begun = time.process_time()  # other work on the machine does not count
    imported = run(path)
    took = time.process_time() - begun
    print(f"\nImport: {imported.counts['read']:,} lines, {imported.sessions:,} sessions, {took:.1f} s of this process")
    assert took < 20


@pytest.mark.django_db(transaction=True)
def test_beside_a_running_collector_every_transaction_writes_first(tmp_path: Path) -> None:
    """SQLite refuses a transaction, without waiting, that has read and finds another's writing when it writes."""
    log = written(tmp_path / "access.log", history(200))
    with CaptureQueriesContext(connection) as asked:
        run(log)
    statements = [query["sql"].split()[0] for query in asked.captured_queries]
    firsts = [after for begin, after in itertools.pairwise(statements) if begin == "BEGIN"]
    assert firsts, "no transaction was seen"
    assert {"SELECT"} & set(firsts) == set()


# Who cannot be told apart ----------------------------------------------------------------------------

DAY_S = 86_400
NOON_S = BEGIN_S + 10 * 3600
PROXY = "203.0.113.5"


def behind(path: Path, ips: Iterator[str] | list[str], *, begin_s: int = NOON_S, mount: str = "/live.mp3") -> Path:
    """Each listener with a player of their own, ten minutes after the last one, for five minutes."""
    return one_after_the_other(path, [(ip, f"Player{number}/1.0") for number, ip in enumerate(ips)], begin_s, mount)


def one_after_the_other(path: Path, who: list[tuple[str, str]], begin_s: int, mount: str = "/live.mp3") -> Path:
    with path.open("a") as log:
        for number, (ip, agent) in enumerate(who):
            stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(begin_s + 600 * number + 300))
            log.write(f'{ip} - - [{stamp}] "GET {mount} HTTP/1.1" 200 5000 "-" "{agent}" 300\n')
    return path


def blurs() -> list[tuple[str, int, int, int | None, int | None, bool]]:
    return [
        (one.stream.slug, to_ms(one.started) // MS, to_ms(one.ended) // MS, one.most, one.compared, one.is_open)
        for one in Blur.objects.filter(why=Blur.Why.ADDRESS).select_related("stream").order_by("started")
    ]


def test_a_log_behind_a_proxy_is_noticed_told_and_its_figures_are_lower_bounds(
    tmp_path: Path, default_station: None
) -> None:
    path = behind(tmp_path / "access.log", [PROXY] * 12 + [f"198.18.0.{number}" for number in range(8)])
    expected = [("live", NOON_S, NOON_S + 11 * 600 + 300, 12, 20, False)]
    imported = run(path, dry_run=True)
    assert [(slug, one.most, one.compared) for slug, one in imported.shared] == [("live", 12, 20)]
    assert blurs() == []
    told = command(str(path))
    assert (
        "Stream 'live', 2026-10-23 11:46 to 2026-10-23 13:41 UTC: most listeners come from one address, 12 of 20"
        in told
    )
    assert PROXY not in told
    assert blurs() == expected
    (stream,) = Stream.objects.filter(slug="live")
    assert reasons([stream.pk], [(NOON_S * MS, (NOON_S + 60) * MS)]) == (Reason.ADDRESS,)
    assert reasons([stream.pk], [((NOON_S - 60) * MS, NOON_S * MS)]) == ()
    assert "one address" not in command(str(path))
    assert blurs() == expected


@pytest.mark.parametrize(
    ("ips", "why"),
    [
        ([f"198.18.0.{number}" for number in range(30)], "each has an address of their own"),
        ([PROXY] * 15 + [f"198.18.0.{number}" for number in range(15)], "half is not most"),
        ([PROXY] * 9, "of nine nothing is concluded"),
        ([f"2001:db8:1:{number % 10}::{number}" for number in range(20)], "homes of two"),
    ],
)
def test_where_no_address_carries_most_nothing_is_said(tmp_path: Path, ips: list[str], why: str) -> None:
    assert run(behind(tmp_path / "access.log", ips)).shared == []
    assert blurs() == [], why


def test_an_ipv6_network_is_one_address(tmp_path: Path) -> None:
    run(behind(tmp_path / "access.log", [f"2001:db8:1:1::{number:x}" for number in range(12)]))
    assert [one[3:5] for one in blurs()] == [(12, 12)]


def test_a_relay_that_is_named_and_who_only_reconnects_are_not_most_listeners(tmp_path: Path) -> None:
    relayed = behind(tmp_path / "relay.log", [PROXY] * 30 + [f"198.18.0.{number}" for number in range(12)])
    again = one_after_the_other(
        tmp_path / "again.log",
        [(PROXY, "VLC/3.0.20")] * 80 + [(f"198.18.0.{number}", "VLC/3.0.20") for number in range(12)],
        NOON_S,
    )
    with override_settings(AIRCOX_LISTEN_STATS={**STATION, "EXCLUDE": {"relay_networks": [f"{PROXY}/32"]}}):
        assert run(relayed).shared == []
    assert run(again, source="again").shared == []
    assert blurs() == []


def test_only_the_days_that_it_concerns_are_marked(tmp_path: Path) -> None:
    """Three days behind the proxy, two without, one more; days that follow each other are one stretch."""
    path = tmp_path / "access.log"
    apart = [f"198.18.0.{number}" for number in range(14)]
    for day, ips in enumerate([[PROXY] * 12, [PROXY] * 14, [PROXY] * 12, apart, apart, [PROXY] * 12]):
        behind(path, ips, begin_s=NOON_S + day * DAY_S)
    run(path)
    last = 11 * 600 + 300
    assert blurs() == [
        ("live", NOON_S, NOON_S + 2 * DAY_S + last, 14, 14, False),
        ("live", NOON_S + 5 * DAY_S, NOON_S + 5 * DAY_S + last, 12, 12, False),
    ]


def test_streams_are_compared_apart_and_a_window_takes_its_own_days(tmp_path: Path) -> None:
    path = behind(tmp_path / "access.log", [PROXY] * 12, mount="/low.mp3")
    behind(path, [f"198.18.0.{number}" for number in range(20)], begin_s=NOON_S + 7200)
    behind(path, [PROXY] * 12, begin_s=NOON_S + 3 * DAY_S)
    run(path, to_ms=(NOON_S + 2 * DAY_S) * MS)
    assert [one[0] for one in blurs()] == ["low"]
    run(path, from_ms=(NOON_S + 2 * DAY_S) * MS)
    assert [one[0] for one in blurs()] == ["low", "live"]


def test_what_goes_on_now_is_one_stretch_with_what_the_log_tells(tmp_path: Path) -> None:
    stream = Stream.objects.get(slug="live")
    until = NOON_S + 11 * 600 + 300
    live = {"stream": stream, "why": Blur.Why.ADDRESS, "most": 30, "compared": 40}
    Blur.objects.create(**live, started=from_ms((until + 3600) * MS), ended=from_ms((until + 7200) * MS), is_open=True)
    run(behind(tmp_path / "access.log", [PROXY] * 12))
    assert blurs() == [("live", NOON_S, until + 7200, 30, 40, True)]


def test_what_was_found_outlives_a_run_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two logs is finished when the run dies: it is not read again."""
    first = behind(tmp_path / "1.log", [PROXY] * 12)
    second = behind(tmp_path / "2.log", [f"198.18.0.{number}" for number in range(50)], begin_s=NOON_S + 9 * DAY_S)
    monkeypatch.setattr(import_reading, "FLUSH_ROWS", 10)
    insert = bulk.Rows.insert

    def dying(sessions: bulk.Rows) -> None:
        insert(sessions)
        if ImportedLog.objects.filter(finished__isnull=False).exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(bulk.Rows, "insert", dying)
    with pytest.raises(KeyboardInterrupt):
        run(first, second)
    assert ImportedLog.objects.filter(finished__isnull=False).count() == 1
    monkeypatch.setattr(bulk.Rows, "insert", insert)
    run(first, second)
    assert [one[3:5] for one in blurs()] == [(12, 12)]
    assert Session.objects.count() == 62


PROXYS = [Blur.Why.ADDRESS, Blur.Why.PROXY, Blur.Why.SOURCE]


def hours(*why: str) -> list[tuple[float, float]]:
    """Of what is known, hours since noon."""
    found = Blur.objects.filter(why__in=why or PROXYS).order_by("started", "why")
    return [((to_ms(one.started) / MS - NOON_S) / 3600, (to_ms(one.ended) / MS - NOON_S) / 3600) for one in found]


def blurred(why: str, from_hour: float, to_hour: float, *, is_open: bool = False) -> None:
    started, ended = (from_ms(int((NOON_S + hour * 3600) * MS)) for hour in (from_hour, to_hour))
    stream = Stream.objects.get(slug="live")
    Blur.objects.create(stream=stream, why=why, started=started, ended=ended, most=30, compared=40, is_open=is_open)


def two_hours(path: Path, ip: str = "198.18.0.{}") -> Path:
    """Lines that end five minutes past noon, and each ten minutes until two o'clock."""
    return behind(path, [ip.format(number) for number in range(12)])


@pytest.mark.parametrize("why", PROXYS)
def test_a_log_that_takes_the_place_of_what_others_told_takes_back_what_was_found_of_its_hours(
    tmp_path: Path, why: str
) -> None:
    blurred(why, -3, -1)
    blurred(why, 0.5, 1)
    blurred(why, 1.5, 4, is_open=True)
    run(two_hours(tmp_path / "access.log"), replace=True)
    last = (11 * 600 + 300) / 3600
    assert hours() == [(-3, -1), (pytest.approx(last), 4)]
    assert [one.is_open for one in Blur.objects.order_by("started")] == [False, True]


def test_what_was_found_before_and_after_the_log_stays_in_two_stretches(tmp_path: Path) -> None:
    blurred(Blur.Why.PROXY, -3, 8, is_open=True)
    run(two_hours(tmp_path / "access.log"), replace=True)
    first, last = 300 / 3600, (11 * 600 + 300) / 3600
    assert hours() == [(-3, pytest.approx(first)), (pytest.approx(last), 8)]
    assert list(Blur.objects.order_by("started").values_list("is_open", "most")) == [(False, 30), (True, 30)]


def test_what_the_log_itself_cannot_tell_apart_stays_found(tmp_path: Path) -> None:
    blurred(Blur.Why.PROXY, 0.5, 1)
    run(two_hours(tmp_path / "access.log", ip=PROXY), replace=True)
    assert hours(Blur.Why.PROXY) == []
    assert [one[3:5] for one in blurs()] == [(12, 12)]


def test_beside_others_and_beside_another_log_of_this_name_nothing_is_taken_back(tmp_path: Path) -> None:
    """A second server's log of the same hours tells nothing of the first one's listeners."""
    run(two_hours(tmp_path / "edge1.log", ip=PROXY))
    found = blurs()
    run(two_hours(tmp_path / "edge2.log"), replace=True)
    assert blurs() == found != []
    Blur.objects.all().delete()
    blurred(Blur.Why.PROXY, 0.5, 1)
    run(two_hours(tmp_path / "other.log", ip="198.19.0.{}"))
    assert hours() == [(0.5, 1)]


def test_addresses_that_a_file_said_are_shared_are_forgotten_with_its_sessions(tmp_path: Path) -> None:
    other_session(NOON_S + 600, 300)
    Session.objects.update(rule=SHARED_ADDRESS)
    stream = Stream.objects.get(slug="live")
    derive(stream.pk, NOON_S * MS, (NOON_S + DAY_S) * MS, now_ms=NOW_MS)
    assert len(hours(Blur.Why.SHARED)) == 1
    run(two_hours(tmp_path / "access.log"), replace=True)
    assert hours(Blur.Why.SHARED) == []
