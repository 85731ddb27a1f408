"""An outage of an HLS stream is compared with, and filled in from, nginx's rotated logs."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.management.commands import _words
from aircox_listen_stats.models import Coverage, Session, Stream
from aircox_listen_stats.pipeline import ingest, recognise, secrets
from aircox_listen_stats.sources import registry
from aircox_listen_stats.sources.hls import parse_line
from tests.sources.hls_run import FOLDER, TARGET_SECONDS

pytestmark = pytest.mark.django_db

JSON_LOG = FOLDER / "nginx_hls_json.log"
LINES = JSON_LOG.read_bytes().splitlines(keepends=True)
BEGAN_MS, ENDED_MS = parse_line(LINES[0]).ended_ms, parse_line(LINES[-1]).ended_ms
NOW_MS = ENDED_MS + 600_000
MINUTE_MS = 60_000
HOURS = (from_ms(BEGAN_MS - MINUTE_MS).isoformat(), from_ms(ENDED_MS + MINUTE_MS).isoformat())
WHY = ("--why", "The collector was down.", "--by", "Ada")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """nginx's log after two rotations; nobody has asked for anything since the last one."""
    size = len(LINES) // 3
    (tmp_path / "hls.log.3.gz").write_bytes(gzip.compress(b"".join(LINES[:size])))
    (tmp_path / "hls.log.2").write_bytes(b"".join(LINES[size : 2 * size]))
    (tmp_path / "hls.log.1").write_bytes(b"".join(LINES[2 * size :]))
    (tmp_path / "hls.log").touch()
    return tmp_path


@pytest.fixture
def stream(db: None, settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stream:
    """A stream that was followed through all of it."""
    configure(settings, folder / "hls.log")
    monkeypatch.setattr(_words, "now_ms", lambda: NOW_MS)
    secrets.forget()
    recognise.forget()
    stream = Stream.objects.create(slug="live", station_id=1, source="hls")
    whole = folder / "whole.log"
    whole.write_bytes(JSON_LOG.read_bytes())
    configure(settings, whole, start_at="beginning")
    source, cursor = registry.source(conf.get(), "hls"), {}
    for _ in range(1000):
        report = source.pull(cursor, now_ms=NOW_MS)
        ingest.store(report, now_ms=NOW_MS)
        cursor = report.cursor
        if not report.more:
            break
    configure(settings, folder / "hls.log")
    return stream


def configure(settings: Any, path: Path, **options: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"hls": {"backend": "hls", "path": str(path), "target_seconds": TARGET_SECONDS, **options}},
        "STREAMS": {"live": {"source": "hls", "station": 1, "mount": "/hls/live.m3u8"}},
        "RULE_SET": "all",
    }


def logs(folder: Path) -> list[str]:
    return ["--log", *(str(folder / name) for name in ("hls.log", "hls.log.1", "hls.log.2", "hls.log.3.gz"))]


def run(command: str, *options: str) -> str:
    out = io.StringIO()
    call_command(command, "live", *HOURS, *options, stdout=out)
    return out.getvalue()


def counted() -> list[tuple[Any, ...]]:
    columns = ("listener", "started", "ended", "played_ms", "parts", "country", "app")
    return sorted(Session.objects.counted().values_list(*columns), key=str)


def outage() -> None:
    """The collector heard nothing of all this."""
    Session.objects.all().delete()
    Coverage.objects.all().delete()


def test_rotated_logs_tell_what_was_followed(stream: Stream, folder: Path) -> None:
    told = list(csv.DictReader(io.StringIO(run("listen_stats_reconcile", *logs(folder), "--csv", "-"))))
    assert len(told) == Session.objects.count() > 8
    assert Counter((line["found"], line["why"]) for line in told) == {("both", "same whole"): len(told)}
    assert [line["seconds_one"] for line in told] == [line["seconds_other"] for line in told]


def test_an_outage_is_filled_in_from_rotated_logs_as_if_they_had_been_followed(stream: Stream, folder: Path) -> None:
    before, stored = counted(), Session.objects.count()
    outage()
    said = run("listen_stats_backfill", *logs(folder), *WHY)
    assert f"{stored} sessions stored, 0 replaced" in said
    assert counted() == before
    covered = Coverage.objects.get()
    assert (covered.started, covered.ended) == (from_ms(BEGAN_MS), from_ms(ENDED_MS + TARGET_SECONDS * 1000))


def test_the_source_itself_is_heard_again_from_its_rotated_logs_but_compressed_ones(
    stream: Stream, folder: Path
) -> None:
    before = counted()
    outage()
    (folder / "hls.log.3").write_bytes(gzip.decompress((folder / "hls.log.3.gz").read_bytes()))
    run("listen_stats_backfill", "--with", "hls", *WHY)
    assert counted() == before
    outage()
    (folder / "hls.log.3").unlink()
    run("listen_stats_backfill", "--with", "hls", *WHY)
    assert 0 < len(counted()) < len(before)
    assert Coverage.objects.get().started > from_ms(BEGAN_MS)


def test_target_seconds_are_those_of_the_one_source_that_has_them(stream: Stream, folder: Path, settings: Any) -> None:
    """The stream may be counted by another kind of source, such as its events."""
    told = settings.AIRCOX_LISTEN_STATS
    events = {"backend": "stream_events", "target_seconds": TARGET_SECONDS}
    moved = {"live": {**told["STREAMS"]["live"], "source": "events"}}
    settings.AIRCOX_LISTEN_STATS = {**told, "SOURCES": {**told["SOURCES"], "events": events}, "STREAMS": moved}
    Stream.objects.update(source="events")
    assert "missing" not in run("listen_stats_reconcile", *logs(folder))
    other = {**told["SOURCES"]["hls"], "target_seconds": 6}
    ice = {"backend": "icecast", "url": "http://127.0.0.1:9", "user": "admin", "password": "x"}
    moved = {"live": {**told["STREAMS"]["live"], "source": "ice"}}
    settings.AIRCOX_LISTEN_STATS = {
        **told, "SOURCES": {"ice": ice, "hls": told["SOURCES"]["hls"], "low": other}, "STREAMS": moved
    }  # fmt: skip
    Stream.objects.update(source="ice")
    with pytest.raises(CommandError, match="hls, low have different ones"):
        run("listen_stats_reconcile", *logs(folder))


def test_an_empty_log_is_no_outage(stream: Stream, folder: Path) -> None:
    with pytest.raises(CommandError, match=r"hls\.log: no line yet"):
        run("listen_stats_reconcile", "--log", str(folder / "hls.log"))
    for name in ("hls.log.1", "hls.log.2"):
        (folder / name).unlink()
    with pytest.raises(CommandError, match="'hls' has no line yet"):
        run("listen_stats_reconcile", "--with", "hls")


@pytest.mark.parametrize("line", [b"192.0.2.7 was here\n", b'{"time": "now"}\n'])
def test_a_followed_log_without_a_readable_line_is_no_outage(stream: Stream, folder: Path, line: bytes) -> None:
    for name in ("hls.log.1", "hls.log.2"):
        (folder / name).unlink()
    (folder / "hls.log").write_bytes(line * 3)
    with pytest.raises(CommandError, match="None of the 3 lines of 'hls' can be read"):
        run("listen_stats_reconcile", "--with", "hls")
