"""Old HLS logs become the sessions that following them would have made: once, whatever is interrupted or repeated."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Blur, Connection, Coverage, ImportedLog, Session, StaleWindow, Stream
from aircox_listen_stats.pipeline import hls_importing, importing, ingest
from aircox_listen_stats.pipeline.import_plan import Imported, Plan
from aircox_listen_stats.sources import hlsfile
from aircox_listen_stats.sources.hlsfile import HlsLogFile, is_hls_log
from tests.sources import hls_run
from tests.sources.hls_run import MASTER
from tests.sources.recording import FOLDER as ICECAST_FOLDER
from tests.sources.test_hls import COMBINED_LOG, FOLDER, JSON_LOG, follow, record
from tests.sources.test_hlslog import crowd

pytestmark = pytest.mark.django_db

NOW_MS = 1_795_400_000_000
SECONDS = 3.04
STATION = {
    "STREAMS": {
        "live": {"source": "hls", "mount": "/hls/live.m3u8"},
        "low": {"source": "icecast", "mount": "/low.mp3"},
    },
    "SOURCES": {
        "hls": {"backend": "hls", "path": "/nowhere/hls.log", "target_seconds": 3, "segment_seconds": SECONDS},
        "icecast": {"backend": "icecast", "url": "http://127.0.0.1:8000", "password": "x"},
    },
}
COLUMNS = (
    *("played_ms", "parts", "is_open", "is_long", "country", "app", "exclusion", "rule"),
    *("bytes_sent", "delivered_ms", "rendition", "switches", "referrer"),
)


@pytest.fixture(autouse=True)
def station() -> Iterator[None]:
    with override_settings(AIRCOX_LISTEN_STATS=STATION):
        for slug in STATION["STREAMS"]:
            Stream.objects.create(slug=slug, station_id=1, source=STATION["STREAMS"][slug]["source"])
        yield


def run(*paths: Path, **plan: Any) -> Imported:
    source = hls_run.source(Path("/nowhere/hls.log"), segment_seconds=SECONDS)
    plan = {"source": "import", "mounts": MASTER, **plan}
    return hls_importing.run([HlsLogFile(path) for path in paths], Plan(**plan), source, now_ms=NOW_MS)


def stored() -> list[tuple[Any, ...]]:
    """Every session without its key, which differs from run to run."""
    rows = [
        (to_ms(one.started), to_ms(one.ended), *(getattr(one, name) for name in COLUMNS))
        for one in Session.objects.all()
    ]
    return sorted(rows, key=json.dumps)


def followed(path: Path) -> list[tuple[Any, ...]]:
    """What the source makes of the log by following it; the rows are removed again."""
    source = hls_run.source(path, segment_seconds=SECONDS)
    reports, cursor = follow(source, {}, now_ms=NOW_MS)
    for report in [*reports, source.pull(cursor, now_ms=NOW_MS + 60_000)]:
        ingest.store(report, now_ms=NOW_MS + 60_000)
    found = stored()
    Connection.objects.all().delete()
    Session.objects.all().delete()
    Coverage.objects.all().delete()
    StaleWindow.objects.all().delete()
    return found


def written(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def at_times(*times: int, **more: Any) -> list[bytes]:
    """A segment fetched at each of these seconds."""
    return [record(f"/hls/hi_{at // 3}.ts", 1_795_312_000.0 + at, **more) for at in times]


def evening(players: int = 20) -> list[bytes]:
    """Four hours: some players of a minute each quarter of an hour, and one that plays throughout."""
    lines = []
    for at in range(0, 4 * 3600, 3):
        lines += at_times(at, remote_addr="192.0.2.200")
        lines += [
            line
            for player in range(players)
            if (at + 20 * player) % 900 < 60
            for line in at_times(at, remote_addr=f"192.0.2.{player + 1}")
        ]
    return lines


@pytest.mark.parametrize("log", [JSON_LOG, COMBINED_LOG, FOLDER / "malformed.log"], ids=lambda path: path.stem)
def test_an_import_makes_the_sessions_that_following_makes(log: Path) -> None:
    expected = followed(log)
    imported = run(log)
    assert stored() == expected
    assert imported.sessions == len(expected)
    assert bool(expected) == (log.stem != "malformed")
    assert sum(imported.counts.values()) == 2 * imported.counts["read"] == 2 * len(log.read_bytes().splitlines())


@pytest.mark.parametrize("batch", [50, 250_000])
@pytest.mark.parametrize("seed", range(2))
def test_a_crowd_gives_the_same_in_any_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, batch: int
) -> None:
    monkeypatch.setattr(hls_importing, "BATCH_REQUESTS", batch)
    monkeypatch.setattr(hls_importing, "STEP_STRETCHES", 3)
    path = written(tmp_path / "hls.log", crowd(seed))
    expected = followed(path)
    run(path)
    assert stored() == expected
    assert len(expected) > 15


def test_rotated_logs_are_one_log_across_which_a_session_goes_on(tmp_path: Path) -> None:
    lines = crowd(7)
    expected = followed(written(tmp_path / "whole", lines))
    first, second, third = len(lines) // 3, 2 * len(lines) // 3, len(lines)
    (tmp_path / "hls.log.2.gz").write_bytes(gzip.compress(b"\n".join(lines[:first]) + b"\n"))
    (tmp_path / "hls.log.1.bz2").write_bytes(bz2.compress(b"\n".join(lines[first:second]) + b"\n"))
    written(tmp_path / "hls.log", lines[second:third])
    run(*(tmp_path / name for name in ("hls.log", "hls.log.1.bz2", "hls.log.2.gz")))
    assert stored() == expected
    assert ImportedLog.objects.filter(secret=None, finished__isnull=False).count() == 3


def test_logs_of_two_servers_of_the_same_hours_add_up(tmp_path: Path) -> None:
    one = written(tmp_path / "a.log", at_times(0, 3, 6, 9, remote_addr="192.0.2.1"))
    other = written(tmp_path / "b.log", at_times(1, 4, 700, remote_addr="192.0.2.2"))
    run(one, other)
    assert [row[1] - row[0] for row in stored()] == [12_000, 6_000, 3_000]


def test_the_same_log_again_gives_nothing_and_one_that_has_grown_its_new_part(tmp_path: Path) -> None:
    path = written(tmp_path / "hls.log", at_times(0, 3, 6))
    run(path)
    again = run(path)
    assert (again.already, again.counts, len(stored())) == (["hls.log"], {}, 1)
    written(path, [*at_times(0, 3, 6), *at_times(900, 903)])
    grown = run(path.rename(tmp_path / "hls.log.1"))
    assert (grown.counts["read"], len(stored())) == (2, 2)


def test_a_last_line_that_is_still_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "hls.log"
    whole, half = at_times(0, 3)
    path.write_bytes(whole + b"\n" + half[:40])
    assert run(path).counts == {"read": 1, "kept": 1, "skipped_unfinished_line": 1}
    path.write_bytes(whole + b"\n" + half + b"\n")
    assert run(path).counts == {"read": 1, "kept": 1}


@pytest.mark.parametrize("steps", [2, 9])
def test_an_interrupted_import_goes_on_and_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(hls_importing, "BATCH_REQUESTS", 1000)
    monkeypatch.setattr(hls_importing, "STEP_STRETCHES", 10)
    path = written(tmp_path / "hls.log", evening())
    run(path)
    expected = stored()
    Session.objects.all().delete()
    ImportedLog.objects.all().delete()
    store = importing.Run.store
    left = iter(range(steps))

    def failing(self: Any, step: Any) -> float:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return store(self, step)

    monkeypatch.setattr(importing.Run, "store", failing)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    assert 0 < Session.objects.count() < len(expected)
    assert ImportedLog.objects.get().secret is not None
    monkeypatch.setattr(importing.Run, "store", store)
    run(path)
    assert stored() == expected
    assert len(expected) > 20 * 15
    assert ImportedLog.objects.get().secret is None


def test_what_is_over_is_stored_while_somebody_plays_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls_importing, "BATCH_REQUESTS", 1000)
    waiting: list[int] = []
    flush = hls_importing._Reading._flush

    def watched(self: Any, safe_ms: int | None, some: Any) -> Any:
        yield from flush(self, safe_ms, some)
        waiting.append(sum(map(len, self._pending.values())))

    monkeypatch.setattr(hls_importing._Reading, "_flush", watched)
    run(written(tmp_path / "hls.log", evening()))
    assert len(waiting) > 3
    assert max(waiting) < 20 * 4 * 2 < Session.objects.count()


def test_a_line_older_than_an_hour_is_refused_and_counted(tmp_path: Path) -> None:
    lines = [*at_times(8000, 8003), *at_times(4500, 4402, 4400, remote_addr="192.0.2.9"), *at_times(8006)]
    imported = run(written(tmp_path / "hls.log", lines))
    assert imported.counts == {"read": 6, "kept": 4, "refused_late": 2}


def test_memory_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths with a token each, addresses, and sessions that are over are all forgotten."""
    monkeypatch.setattr(hls_importing, "BATCH_REQUESTS", 500)
    monkeypatch.setattr(hls_importing, "MOST_KNOWN", 100)
    monkeypatch.setattr(hlsfile, "BLOCK_BYTES", 50_000)

    def peak(count: int) -> int:
        lines = [
            record(f"/hls/{at:025}/hi_7.ts", 1_795_000_000.0 + 60 * at, remote_addr=f"198.18.{at // 250}.{at % 250}")
            for at in range(count)
        ]
        path = written(tmp_path / f"{count}.log", lines)
        tracemalloc.start()
        run(path, dry_run=True)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(300)  # what is loaded once
    assert peak(6000) < 1.3 * peak(2000)


def test_coverage_stale_figures_and_windows_follow_the_log(tmp_path: Path) -> None:
    path = written(tmp_path / "hls.log", at_times(0, 3, 6, 9000, 9003))
    run(path, to_ms=1_795_312_000_000 + 5_000_000)
    assert Session.objects.count() == 1
    (cover,) = Coverage.objects.all()
    assert (to_ms(cover.started), to_ms(cover.ended)) == (1_795_312_000_000, 1_795_317_000_000)
    assert StaleWindow.objects.filter(kind=StaleWindow.AUDIENCE).exists()
    run(path, from_ms=1_795_312_000_000 + 5_000_000)
    assert Session.objects.count() == 2
    (cover,) = Coverage.objects.all()
    assert to_ms(cover.ended) == 1_795_321_003_000 + 3000


def test_hours_that_another_source_told_of_are_refused_or_replaced(tmp_path: Path) -> None:
    expected = followed(JSON_LOG)
    for report in follow(hls_run.source(JSON_LOG, segment_seconds=SECONDS), {}, now_ms=NOW_MS)[0]:
        ingest.store(report, now_ms=NOW_MS)
    ingest.store(hls_run.source(JSON_LOG).pull({}, now_ms=NOW_MS + 60_000), now_ms=NOW_MS + 60_000)
    with pytest.raises(importing.ImportRefused, match="source 'hls'"):
        run(JSON_LOG)
    ImportedLog.objects.all().delete()
    imported = run(JSON_LOG, replace=True)
    assert imported.replaced == len(expected)
    assert stored() == expected
    assert set(Session.objects.values_list("source", flat=True)) == {"import"}


def test_nothing_of_who_it_was_is_kept(tmp_path: Path) -> None:
    run(written(tmp_path / "hls.log", at_times(0, 3, session="tr0ub4dor", agent="Secret/1")))
    row = ImportedLog.objects.get()
    told = json.dumps([row.state, row.counts, row.label, row.fingerprint, *Session.objects.values()], default=str)
    assert not [word for word in ("192.0.2", "tr0ub4dor", "Secret", str(tmp_path)) if word in told]


# The command ---------------------------------------------------------------------------------------


def test_logs_are_told_apart_by_their_lines() -> None:
    logs = [JSON_LOG, COMBINED_LOG, FOLDER / "malformed.log", ICECAST_FOLDER / "icecast_access.log"]
    assert [is_hls_log(path) for path in logs] == [True, True, False, False]


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("listen_stats_import", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_takes_icecasts_and_hls_logs_together(tmp_path: Path) -> None:
    expected = followed(JSON_LOG)
    told = command(str(JSON_LOG), str(ICECAST_FOLDER / "icecast_access.log"))
    assert [row for row in stored() if row[-1] is not None] == expected
    assert Session.objects.filter(stream__slug="low").exists()
    lines = sum(len(path.read_bytes().splitlines()) for path in (JSON_LOG, ICECAST_FOLDER / "icecast_access.log"))
    assert told.startswith(f"{lines} lines read, ")
    assert "playlist" in told
    assert "nothing new" in command(str(JSON_LOG))


def test_the_command_refuses_what_it_cannot_place() -> None:
    with pytest.raises(CommandError, match="is no log of HLS, and every stream given is counted by HLS: live"):
        command(str(ICECAST_FOLDER / "icecast_access.log"), "--stream", "live")
    two = {**STATION["SOURCES"], "cdn": STATION["SOURCES"]["hls"]}
    streams = {**STATION["STREAMS"], "far": {"source": "cdn", "mount": "/far/live.m3u8"}}
    with override_settings(AIRCOX_LISTEN_STATS={"STREAMS": streams, "SOURCES": two}):
        with pytest.raises(CommandError, match="Which of the sources cdn, hls wrote these HLS logs"):
            command(str(JSON_LOG))
        assert "sessions stored" in command(str(JSON_LOG), "--stream", "live")


def test_a_log_behind_a_proxy_is_noticed(tmp_path: Path) -> None:
    """Twelve players with one address, five with their own."""
    heard = [("203.0.113.5", f"Player{number}/1.0") for number in range(12)]
    heard += [(f"198.51.100.{number}", "VLC/3.0.20") for number in range(5)]
    lines = [
        line for at in range(0, 60, 3) for ip, agent in heard for line in at_times(at, remote_addr=ip, agent=agent)
    ]
    imported = run(written(tmp_path / "hls.log", lines))
    assert [(slug, one.most, one.compared) for slug, one in imported.shared] == [("live", 12, 17)]
    (found,) = Blur.objects.all()
    assert (found.stream.slug, found.why, found.most, found.compared, found.is_open) == (
        *("live", Blur.Why.ADDRESS, 12, 17),
        False,
    )
    assert run(written(tmp_path / "apart.log", evening()), source="apart", replace=True).shared == []
