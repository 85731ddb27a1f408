"""The same recorded seven minutes by poll, callbacks and log: what the command says of their agreement."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.kernel.types import Address, Observation
from aircox_listen_stats.management.commands import _words
from aircox_listen_stats.models import Connection, Coverage, Secret, Session, Stream
from aircox_listen_stats.pipeline import recognise, retold, secrets
from aircox_listen_stats.pipeline.inbox import HEARS_ARRIVALS
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.sources.base import Report
from aircox_listen_stats.sources.icecast import IcecastSource
from tests.sources.recording import FOLDER, MOUNTS, RecordedIcecast, at, clients, truth
from tests.sources.test_recorded_run import _callbacks

pytestmark = pytest.mark.django_db

LOG = str(FOLDER / "icecast_access.log")
HLS_LOG = str(FOLDER.parent / "hls" / "nginx_hls_json.log")


@pytest.fixture
def station(settings: Any, db: None) -> dict[str, Stream]:
    """The recorded server's three streams."""
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {
            "ice": {"backend": "icecast", "url": "http://127.0.0.1:8000", "user": "admin", "password": "hidden"},
            "log": {"backend": "accesslog", "path": LOG},
        },
        "STREAMS": {slug: {"source": "ice", "station": 1, "mount": mount} for mount, slug in MOUNTS.items()},
    }
    recognise.forget()
    secrets.forget()
    return {slug: Stream.objects.create(slug=slug, station_id=1, source="ice") for slug in MOUNTS.values()}


@pytest.fixture
def polled(station: dict[str, Stream]) -> dict[str, Stream]:
    """The recorded polls, stored as the collector stores them."""
    icecast = RecordedIcecast()
    source = IcecastSource(
        "ice", MOUNTS, {"url": "http://127.0.0.1:8000", "password": "hidden", "poll_seconds": 15},
        fallbacks={"live": ("/fallback.mp3",)},
    )  # fmt: skip
    source.transport = icecast
    cursor: dict[str, Any] = {}
    for instant_s in icecast.rounds():
        icecast.now_s = instant_s
        report = source.pull(cursor, now_ms=at(instant_s))
        store(report, now_ms=at(instant_s))
        cursor = dict(report.cursor or {})
    source.close()
    return station


def window() -> tuple[str, str]:
    """From the first client to after the last one, without the try-outs before."""
    start_ms = at(truth()["t0"])
    return from_ms(start_ms).isoformat(), from_ms(start_ms + 600_000).isoformat()


def reconcile(stream: str, *options: str) -> str:
    out = io.StringIO()
    call_command("listen_stats_reconcile", stream, *window(), *options, stdout=out)
    return out.getvalue()


def lines(stream: str, *options: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(reconcile(stream, *options, "--csv", "-"))))


def kinds(found: list[dict[str, str]]) -> Counter[tuple[str, str]]:
    return Counter((line["found"], line["why"]) for line in found)


POLLED = {
    "live": Counter({("both", "same whole"): 22, ("both", "same time"): 1, ("other", "between_polls"): 3}),
    "low": Counter({("both", "same whole"): 16, ("both", "same time"): 1, ("other", "between_polls"): 6}),
    "ogg": Counter({("both", "same whole"): 4}),
}
"""What the polls and the log of the recording agree on. One agent with odd bytes is spelled differently
by the two ears and found by its times."""


@pytest.mark.parametrize("stream", MOUNTS.values())
def test_polls_and_log_agree_but_for_who_came_and_went_between_two_polls(
    polled: dict[str, Stream], stream: str
) -> None:
    found = lines(stream, "--log", LOG)
    assert kinds(found) == POLLED[stream]
    missed = [line for line in found if line["found"] == "other"]
    assert all(float(line["seconds_other"]) < 15 for line in missed)
    met = [one for one in clients() if one.stream == stream and one.heard and one.label != "ua-2k"]
    truly_heard = sum(one.seconds for one in met)
    assert sum(float(line["seconds_other"] or 0) for line in found) == pytest.approx(truly_heard, rel=0.03)


def test_without_the_secret_times_alone_match_as_many(polled: dict[str, Stream]) -> None:
    """Two who came and went together may be swapped, which changes no count."""
    Secret.objects.all().delete()
    secrets.forget()
    for stream, expected in POLLED.items():
        table = reconcile(stream, "--log", LOG)
        assert "start and end alone" in table
        found = kinds(lines(stream, "--log", LOG))
        assert found[("both", "same whole")] == sum(n for (where, _), n in expected.items() if where == "both")
        assert found[("other", "between_polls")] == expected[("other", "between_polls")]


def test_the_table_says_sessions_seconds_and_reasons(polled: dict[str, Stream]) -> None:
    table = reconcile("live", "--log", LOG).splitlines()
    assert table[0].split() == ["here:", "ice", "there:", "icecast_access.l"]
    for line, (name, *expected) in zip(
        table[2:], (("all", 23, 1929, 26, 2051), ("matched", 23, 1929, 23, 2048)), strict=False
    ):
        told, *figures = line.split()
        assert told == name
        assert [int(one) for one in figures] == pytest.approx(expected, abs=1)  # a poll's instant is its machine's
    assert table[-1].split(maxsplit=4)[2:] == ["3", "3", "came and went between two polls"]


def test_a_source_that_follows_the_log_tells_the_same(polled: dict[str, Stream]) -> None:
    assert lines("low", "--with", "log") == lines("low", "--log", LOG)


THIRDS = ("access.log.2", "access.log.1", "access.log")


def rotated(folder: Path, *names: str) -> list[str]:
    """The recorded log in as many pieces, the oldest first; compressed where the name says so."""
    written = Path(LOG).read_bytes().splitlines(keepends=True)
    size = -(-len(written) // len(names))
    for number, name in enumerate(names):
        piece = b"".join(written[number * size : (number + 1) * size])
        (folder / name).write_bytes(gzip.compress(piece) if name.endswith(".gz") else piece)
    return [str(folder / name) for name in names]


def follows(settings: Any, path: str) -> None:
    told = settings.AIRCOX_LISTEN_STATS
    log = {**told["SOURCES"]["log"], "path": path}
    settings.AIRCOX_LISTEN_STATS = {**told, "SOURCES": {**told["SOURCES"], "log": log}}


@pytest.mark.parametrize("is_empty", [False, True], ids=["written to", "just rotated"])
def test_a_source_that_follows_the_log_is_heard_from_its_rotated_files_on(
    polled: dict[str, Stream], settings: Any, tmp_path: Path, is_empty: bool
) -> None:
    if is_empty:
        rotated(tmp_path, "access.log.3", "access.log.2", "access.log.1")
        (tmp_path / "access.log").touch()
    else:
        rotated(tmp_path, *THIRDS)
    follows(settings, str(tmp_path / "access.log"))
    for stream, expected in POLLED.items():
        assert kinds(lines(stream, "--with", "log")) == expected


def test_rotated_and_compressed_logs_are_one_in_whatever_order_they_are_named(
    polled: dict[str, Stream], tmp_path: Path
) -> None:
    logs = rotated(tmp_path, "access.log.2.gz", *THIRDS[1:])
    for stream, expected in POLLED.items():
        assert kinds(lines(stream, "--log", *reversed(logs))) == expected


def test_files_that_were_over_long_before_the_hours_are_not_read_again(
    polled: dict[str, Stream], settings: Any, tmp_path: Path
) -> None:
    rotated(tmp_path, *THIRDS)
    day = b'192.0.2.7 - - [%d/Nov/2026:01:54:40 +0000] "GET /live.mp3 HTTP/1.1" 200 5000 "-" "VLC/3.0.20" 12\n'
    for number in (18, 19, 20):
        (tmp_path / f"access.log.{23 - number}").write_bytes(day % number)
    follows(settings, str(tmp_path / "access.log"))
    start_ms = at(truth()["t0"])
    told = retold.from_source(
        polled["live"], "log", "/live.mp3", start_ms, start_ms + 600_000, now_ms=start_ms + 600_000
    )
    assert told.counts["read"] == len(Path(LOG).read_bytes().splitlines()) + 1
    assert told.telling.covered[0][0] == 1_795_139_680_000  # the 20th: the last one that may hold what began before


def test_nothing_is_stored_and_nobody_is_named(polled: dict[str, Stream], tmp_path: Path) -> None:
    before = (list(Session.objects.values()), list(Coverage.objects.values()))
    path = tmp_path / "agreement.csv"
    table = reconcile("live", "--log", LOG, "--csv", str(path))
    assert (list(Session.objects.values()), list(Coverage.objects.values())) == before
    told = path.read_text() + table
    assert not any(str(key) in told for key in Session.objects.values_list("listener", flat=True))
    assert not any(one.ip in told for one in clients())


def test_a_cut_line_is_named_as_the_reason(polled: dict[str, Stream]) -> None:
    """The callbacks tell of the client whose line Icecast cut: the log's half line still has its end."""
    Session.objects.all().delete()
    Connection.objects.all().delete()
    heard = [
        Observation(
            stream=told.stream,
            started_ms=told.started_ms,
            seen_ms=told.ended_ms,
            ended=True,
            client=f"{run}-{client}",
            address=Address(ip=told.ip, agent=told.agent),
        )
        for (run, client), (told, _) in _callbacks({"listener_add", "listener_remove"}).items()
        if told.started_ms >= at(truth()["t0"]) and told.ended_ms - told.started_ms > 1500
    ]
    hears_all = {HEARS_ARRIVALS: True}
    store(Report(source="ice", observations=heard, cursor=hears_all), now_ms=at(truth()["t0"]) + 600_000)
    found = kinds(lines("live", "--log", LOG))
    assert found[("one", "refused_line")] == 1
    assert found[("one", "unknown")] == 0


def test_what_was_not_observed_is_an_outage(polled: dict[str, Stream]) -> None:
    """The stored side heard nothing for two minutes: who came and went then is missing for that reason."""
    start_ms = at(truth()["t0"]) + 60_000
    gap = (from_ms(start_ms), from_ms(start_ms + 120_000))
    gone = Session.objects.filter(stream=polled["low"], started__gte=gap[0], ended__lte=gap[1])
    count = gone.count()
    assert count >= 2
    gone.delete()
    Coverage.objects.filter(stream=polled["low"]).delete()
    for started, ended in ((from_ms(start_ms - 120_000), gap[0]), (gap[1], from_ms(start_ms + 600_000))):
        Coverage.objects.create(stream=polled["low"], started=started, ended=ended)
    found = kinds(lines("low", "--log", LOG))
    assert found[("other", "unobserved")] >= count
    assert found[("other", "unknown")] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nope", "2026-11-22", "2026-11-23", "--log", LOG], "Unknown stream 'nope'. Known: live, low, ogg."),
        (["live", "2026-11-23", "2026-11-22", "--log", LOG], "is not later than"),
        (["live", "2026-11-22", "2026-11-23"], "Name one second source"),
        (["live", "2026-11-22", "2026-11-23", "--with", "ice"], "follows no log.*Those that do: log"),
        (["live", "2026-11-22", "2026-11-23", "--with", "nope"], "follows no log"),
        (["live", "2026-11-22", "2026-11-23", "--log", "/nowhere/access.log"], "cannot be read"),
        (["live", "2026-11-23", "2026-11-24", "--log", LOG], r"nothing of these hours: it observed 2026-11-22 01:4\d"),
        (["live", "2026-11-20", "2026-11-21", "--with", "log"], "'log' tells nothing of these hours.*with --log"),
        (["live", "2026-11-22", "2026-11-23", "--log", __file__], "neither as Icecast's access log nor as nginx's log"),
        (["live", "2026-11-22", "2026-11-23", "--log", LOG, HLS_LOG], "Name logs of one kind"),
        (["live", "2026-11-22", "2026-11-23", "--log", HLS_LOG], "target_seconds are unknown: no source"),
        (["live", "2026-11-22", "2026-11-23", "--log", LOG, "--mount", "/x"], "listening to '/x' .*with --mount"),
        (["live", "2026-11-22", "2026-11-23", "--with", "log", "--mount", "/x"], "listening to '/x' .*with --mount"),
    ],
)
def test_what_cannot_be_compared_is_said(
    station: dict[str, Stream], monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    monkeypatch.setattr(_words, "now_ms", lambda: at(truth()["t0"]) + 3_600_000)
    with pytest.raises(CommandError, match=says):
        call_command("listen_stats_reconcile", *options)
