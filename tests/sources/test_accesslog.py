"""The access log: what a line means, and a log that is followed loses and doubles none."""

from __future__ import annotations

import gzip
import io
import json
import locale
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aircox_listen_stats.errors import ConfigurationError, MalformedRecord, SourceUnavailable
from aircox_listen_stats.sources import follow
from aircox_listen_stats.sources.accesslog import AccessLogSource, LogFile, parse_line, read_chunks, stream_of
from tests.sources.recording import FOLDER, MOUNTS, MS

NOW_MS = 1_795_312_400_000


def line(
    agent: str = "VLC/3.0.20",
    *,
    stamp: str = "22/Nov/2026:01:54:40 +0000",
    request: str = "GET /live.mp3 HTTP/1.1",
    status: int = 200,
    sent: str = "5000",
    seconds: str = "12",
    ip: str = "192.0.2.7",
    referer: str = "-",
) -> bytes:
    return f'{ip} - - [{stamp}] "{request}" {status} {sent} "{referer}" "{agent}" {seconds}'.encode("latin-1")


# Lines -------------------------------------------------------------------------------------------------


def test_the_stamp_is_the_end_and_the_start_is_the_stamp_less_the_duration() -> None:
    read = parse_line(line())
    assert (read.ended_s, read.started_s) == (1_795_312_480, 1_795_312_468)


@pytest.mark.parametrize(
    ("stamp", "epoch"),
    [
        ("22/Nov/2026:01:54:40 +0100", 1_795_308_880),
        ("21/Nov/2026:18:24:40 -0730", 1_795_312_480),
        ("25/Oct/2026:02:30:00 +0200", 1_792_888_200),  # the hour that comes twice, first
        ("25/Oct/2026:02:30:00 +0100", 1_792_891_800),  # and again
        ("29/Mar/2026:03:00:00 +0200", 1_774_746_000),
        ("29/Feb/2028:00:00:00 +0000", 1_835_395_200),
        ("31/Dec/2026:23:59:60 +0000", 1_798_761_600),
    ],
)
def test_stamps_know_their_offset(stamp: str, epoch: int) -> None:
    assert parse_line(line(stamp=stamp)).ended_s == epoch
    assert parse_line(line(stamp=stamp)).ended_s == epoch  # remembered minutes say the same


@pytest.mark.parametrize(
    "stamp",
    ["31/Feb/2026:01:00:00 +0000", "22/nov/2026:01:00:00 +0000", "22/Mai/2026:01:00:00 +0000",
     "2026-11-22T01:00:00Z", "22/Nov/2026:24:00:00 +0000", "22/Nov/2026:01:60:00 +0000", "22/Nov/2026:01:00:61 +0000",
     "22/Nov/1960:01:00:00 +0000",
     "22/Nov/2026:01:00:00", "22/Nov/2026:01:00:00 +9900", ""],
)  # fmt: skip
def test_stamps_that_are_no_instants_are_refused(stamp: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse_line(line(stamp=stamp))
    assert caught.value.reason == "stamp"


def test_months_are_english_whatever_the_locale() -> None:
    before = locale.setlocale(locale.LC_TIME)
    try:
        for name in ("fr_FR.UTF-8", "de_DE.UTF-8", "C.UTF-8"):
            try:
                locale.setlocale(locale.LC_TIME, name)
            except locale.Error:
                continue
            assert parse_line(line(stamp="01/May/2026:00:00:00 +0000")).ended_s == 1_777_593_600
    finally:
        locale.setlocale(locale.LC_TIME, before)


@pytest.mark.parametrize(
    "agent",
    ["Foo .Bar.. baz' 200 5 .-.", "R..dio..../1.0", "-", "", 'say "hi"', 'a \\"quoted\\" agent', "x" * 800,
     "pct%22%0A+plus&amp=1;x",
     "Sonos/57.3 (ZPS1) WinampMPEG/5.66", "trailing \\"],
)  # fmt: skip
def test_agents_may_hold_anything(agent: str) -> None:
    read = parse_line(line(agent))
    assert read.address.agent == agent
    assert (read.duration_s, read.status) == (12, 200)


def test_the_recorded_line_that_icecast_cut_is_named() -> None:
    reasons = Counter()
    for one in (FOLDER / "icecast_access.log").read_bytes().splitlines():
        try:
            parse_line(one)
        except MalformedRecord as error:
            reasons[error.reason] += 1
    assert reasons == {"cut": 1}


def test_every_malformed_line_is_refused_with_its_reason() -> None:
    reasons = []
    for one in (FOLDER / "malformed_access.log").read_bytes().splitlines():
        with pytest.raises(MalformedRecord) as caught:
            parse_line(one)
        assert "192.0.2" not in str(caught.value)
        reasons.append(caught.value.reason)
    assert reasons == ["no_duration", "malformed", "stamp", "stamp", "duration", "stamp", "malformed"]


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, ("live", "")),
        ({"request": "GET /live.mp3?token=x HTTP/1.1"}, ("live", "")),
        ({"status": 206}, ("live", "")),
        ({"seconds": "0"}, ("live", "")),
        ({"request": "GET /caf%c3%a9.mp3 HTTP/1.1"}, ("cafe", "")),
        ({"request": "HEAD /live.mp3 HTTP/1.1", "status": 400}, ("", "method")),
        ({"request": "POST /live.mp3 HTTP/1.1"}, ("", "method")),
        ({"request": "SOURCE /live.mp3 HTTP/1.0"}, ("", "source_client")),
        ({"request": "PUT /live.mp3 HTTP/1.1"}, ("", "source_client")),
        ({"status": 404}, ("", "status_404")),
        ({"status": 401}, ("", "status_401")),
        ({"status": 400, "sent": "0"}, ("", "status_400")),
        ({"sent": "0"}, ("", "nothing_sent")),
        ({"request": "GET /live.mp3.m3u HTTP/1.1"}, ("", "playlist")),
        ({"request": "GET /live.mp3.xspf HTTP/1.1"}, ("", "playlist")),
        ({"request": "GET / HTTP/1.1"}, ("", "page")),
        ({"request": "GET /status-json.xsl HTTP/1.1"}, ("", "page")),
        ({"request": "GET /admin/listclients HTTP/1.1"}, ("", "admin_page")),
        ({"request": "GET /other.mp3 HTTP/1.1"}, ("", "other_mount")),
        ({"request": ""}, ("", "method")),
    ],
)
def test_what_is_listening_and_why_the_rest_is_not(given_: dict[str, Any], expected: tuple[str, str]) -> None:
    assert stream_of(parse_line(line(**given_)), {**MOUNTS, "/café.mp3": "cafe"}) == expected


@pytest.mark.parametrize(
    ("told", "host"),
    [
        ("-", "-"),
        ("https://www.radio.example/live?mail=anna", "radio.example"),
        (r"https://radio.example/say-\"hello\"", "radio.example"),
        ("https://192.0.2.7/", None),
    ],
)
def test_of_a_referrer_the_host_is_kept(told: str, host: str | None) -> None:
    assert parse_line(line(referer=told)).referrer == host
    assert parse_line(line(referer=told, agent='a "quoted" one')).referrer == host


RECORDED = [one for one in (FOLDER / "icecast_access.log").read_bytes().splitlines() if b"GET /l" in one]


@settings(max_examples=300)
@given(st.sampled_from(RECORDED), st.integers(0, 300), st.integers(0, 20), st.binary(max_size=20))
def test_any_damage_to_a_line_is_refused_or_read_alike_by_both_readers(
    good: bytes, place: int, cut: int, bytes_: bytes
) -> None:
    damaged = (good[:place] + bytes_ + good[place + cut :]).replace(b"\n", b" ")
    counts = {"read": 1, "kept": 0}
    try:
        stream, reason = stream_of(parse_line(damaged), MOUNTS)
        name = "kept" if stream else f"skipped_{reason}"
    except MalformedRecord as error:
        name = f"refused_{error.reason}"
    counts[name] = counts.get(name, 0) + 1
    chunks = list(read_chunks(io.BytesIO(damaged + b"\n"), MOUNTS))
    assert [one.counts for one in chunks] == ([counts] if damaged else [{"read": 0, "kept": 0}])


@given(st.binary(max_size=400))
def test_no_bytes_at_all_break_the_parser(bytes_: bytes) -> None:
    reason = ""
    try:
        parse_line(bytes_)
    except MalformedRecord as error:
        reason = error.reason
    assert reason in {"", "cut", "no_duration", "stamp", "duration", "ip", "too_long", "malformed"}


def test_an_endless_line_is_refused_in_bounded_time() -> None:
    for hostile in (b'"' * 60_000, b"1 - - [" + b'"\\' * 30_000, b"x " * 30_000, line("a" * 60_000)[:-4]):
        with pytest.raises(MalformedRecord):
            parse_line(hostile)


# Whole files -----------------------------------------------------------------------------------------


@given(st.integers(1, 3000))
def test_the_size_of_the_chunks_changes_nothing(chunk_bytes: int) -> None:
    log = b"\n".join(RECORDED[:12]) + b"\n"
    whole = _columns(read_chunks(io.BytesIO(log), MOUNTS))
    assert _columns(read_chunks(io.BytesIO(log), MOUNTS, chunk_bytes=chunk_bytes)) == whole
    assert len(whole) == 8  # the others were reset, or asked for a playlist


def _columns(chunks: Any) -> list[tuple[Any, ...]]:
    return [
        (start, end, stream, chunk.addresses[who].ip, chunk.addresses[who].agent)
        for chunk in chunks
        for start, end, stream, who in zip(chunk.started_ms, chunk.ended_ms, chunk.stream, chunk.who, strict=True)
    ]


def test_an_unfinished_last_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(line() + b"\n" + line(seconds="123")[:-1])
    chunks = list(LogFile(path).chunks(MOUNTS))
    assert sum(chunk.counts.get("kept", 0) for chunk in chunks) == 1
    assert chunks[-1].offset == len(line()) + 1
    assert chunks[-1].counts == {"skipped_unfinished_line": 1}


def test_a_compressed_log_reads_as_the_plain_one(tmp_path: Path) -> None:
    plain, packed = FOLDER / "icecast_access.log", tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = LogFile(plain), LogFile(packed)
    assert _columns(one.chunks(MOUNTS)) == _columns(other.chunks(MOUNTS))
    assert (one.length(), one.first_line(), one.first_ms()) == (other.length(), other.first_line(), other.first_ms())
    assert one.digest(5000, b"k") == other.digest(5000, b"k") != one.digest(5000, b"l")
    assert one.digest(10**9, b"k") is None


def test_a_compressed_log_that_is_cut_is_refused_with_what_to_do(tmp_path: Path) -> None:
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(os.urandom(200_000) + b"\n" + line() + b"\n")[:-50])
    log = LogFile(packed)
    with pytest.raises(SourceUnavailable, match=r"complete \.gz"):
        list(log.chunks(MOUNTS))


# Following -------------------------------------------------------------------------------------------


class Follower:
    """A log in a folder and a collector that keeps nothing but the cursor."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "access.log"
        self.options = {"path": str(self.path), **options}
        self.cursor: dict[str, Any] = {}
        self.heard: list[str] = []
        self.counts: Counter[str] = Counter()
        self.spans: list[tuple[int, int]] = []
        self.now_ms = NOW_MS
        self.source = AccessLogSource("log", MOUNTS, self.options)

    def write(self, *names: str, path: Path | None = None) -> None:
        with (path or self.path).open("ab") as log:
            for name in names:
                log.write(numbered(name) + b"\n")

    def pull(self, *, afresh: bool = True) -> list[str]:
        """The agents heard by pulling until there is no more."""
        if afresh:
            self.source = AccessLogSource("log", MOUNTS, self.options)
        got = []
        for _ in range(1000):
            report = self.source.pull(self.cursor, now_ms=self.now_ms)
            self.cursor = json.loads(json.dumps(report.cursor))
            got += [one.address.agent for one in report.observations if one.address]
            self.counts.update(report.counts)
            self.spans += [(one.started_ms, one.ended_ms) for one in report.heard if one.stream == "live"]
            self.now_ms += 1000
            if not report.more:
                break
        self.heard += got
        return got


def numbered(name: str) -> bytes:
    """A line whose agent is ``name`` and whose stamp is as many seconds on as its digits say."""
    second = int("".join(filter(str.isdigit, name)) or 0)
    return line(name, stamp=f"22/Nov/2026:{2 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000")


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    made = Follower(tmp_path, start_at="beginning")
    made.write("a1", "a2")
    assert made.pull() == ["a1", "a2"]
    return made


def test_only_new_lines_are_heard(follower: Follower) -> None:
    assert follower.pull() == []
    follower.write("a3")
    assert follower.pull() == ["a3"]


def test_a_line_is_heard_when_its_newline_is_there(follower: Follower) -> None:
    with follower.path.open("ab") as log:
        log.write(numbered("a3")[:60])
    assert follower.pull() == []
    with follower.path.open("ab") as log:
        log.write(numbered("a3")[60:] + b"\n")
    assert follower.pull() == ["a3"]
    assert not any(name.startswith("refused") for name in follower.counts)


def test_a_renamed_log_is_read_to_its_end_before_the_new_one(follower: Follower) -> None:
    old = follower.path.with_name("access.log.1")
    follower.path.rename(old)
    follower.write("a3", path=old)  # Icecast still writes to it until it is told to reopen
    assert follower.pull() == ["a3"]
    follower.write("a4", path=old)
    follower.write("a5")
    assert follower.pull() == ["a4", "a5"]
    follower.write("a6")
    assert follower.pull() == ["a6"]


def test_a_new_empty_log_does_not_end_the_old_one(follower: Follower) -> None:
    """logrotate's ``create`` makes the new file before Icecast reopens."""
    old = follower.path.with_name("access.log-20261122")
    follower.path.rename(old)
    follower.path.touch()
    assert follower.pull() == []
    follower.write("a3", path=old)
    assert follower.pull() == ["a3"]
    follower.write("a4")
    assert follower.pull() == ["a4"]


def test_copytruncate_is_read_on_in_the_copy(follower: Follower) -> None:
    follower.write("a3")
    shutil.copy(follower.path, follower.path.with_name("access.log.1"))
    os.truncate(follower.path, 0)
    follower.write("a4")
    assert follower.pull() == ["a3", "a4"]


def test_copytruncate_that_has_grown_beyond_the_old_size_is_noticed(follower: Follower) -> None:
    follower.write("a3")
    shutil.copy(follower.path, follower.path.with_name("access.log.1"))
    os.truncate(follower.path, 0)
    follower.write(*(f"b{n}" for n in range(10, 30)))
    assert follower.pull() == ["a3", *(f"b{n}" for n in range(10, 30))]


@pytest.mark.parametrize("name", ["access.log.old", "access.log.20261122_015311", "access.log.1"])
def test_icecasts_own_names_of_rotated_logs_are_found(follower: Follower, name: str) -> None:
    follower.write("a3")
    follower.path.rename(follower.path.with_name(name))
    follower.write("a4")
    assert follower.pull() == ["a3", "a4"]


def test_several_rotations_between_two_pulls_lose_nothing(follower: Follower) -> None:
    follower.write("a3")
    for number, name in enumerate(("a10", "a20", "a30")):
        follower.path.rename(follower.path.with_name(f"access.log.{9 - number}"))
        follower.write(name)
    assert follower.pull() == ["a3", "a10", "a20", "a30"]
    assert follower.pull() == []


def test_a_rotated_log_that_is_gone_is_counted_and_leaves_a_hole(follower: Follower) -> None:
    with follower.path.open("rb"):  # else the new one may get its inode
        follower.path.unlink()
        follower.write("a3600")
    assert follower.pull() == ["a3600"]
    assert follower.counts["lost_files"] == 1
    assert leaves_a_hole(follower)


def leaves_a_hole(follower: Follower) -> bool:
    """Is it unknown what was before ``a3600``, the first line of a new log?"""
    started_ms, ended_ms = follower.spans[-1]
    return started_ms >= parse_line(numbered("a3600")).ended_s * MS or started_ms == ended_ms


GROWN = [f"b{3600 + n}" for n in range(20)]


@pytest.mark.parametrize("after", [["a3600"], GROWN], ids=["shorter", "grown beyond"])
def test_a_log_that_is_emptied_where_it_lies_once_it_was_read_has_lost_nothing(
    follower: Follower, after: list[str]
) -> None:
    covered_ms = follower.spans[-1][1]
    os.truncate(follower.path, 0)
    if after is not GROWN:
        assert follower.pull() == []
        assert (follower.counts["truncated_files"], follower.cursor["offset"]) == (1, 0)
        covered_ms = follower.spans[-1][1]
    follower.write(*after)
    assert follower.pull() == after
    assert follower.pull() == []
    assert (follower.counts["truncated_files"], follower.counts["lost_files"]) == (1, 0)
    assert covered_ms in [started_ms for started_ms, _ in follower.spans]
    assert all(before[1] == after[0] for before, after in zip(follower.spans, follower.spans[1:], strict=False))


@pytest.mark.parametrize("after", [["a3600"], ["a3600", *GROWN]], ids=["shorter", "grown beyond"])
def test_a_log_that_is_emptied_with_a_line_that_was_not_read_is_lost_and_leaves_a_hole(
    follower: Follower, after: list[str]
) -> None:
    with follower.path.open("ab") as log:
        log.write(numbered("a3")[:60])
    assert follower.pull() == []
    os.truncate(follower.path, 0)
    follower.write(*after)
    assert follower.pull() == after
    assert (follower.counts["truncated_files"], follower.counts["lost_files"]) == (0, 1)
    assert leaves_a_hole(follower)


def test_a_log_that_is_emptied_while_much_of_it_waits_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PULL_BYTES", 2000)
    monkeypatch.setattr(follow, "HEAD_BYTES", 200)
    made = Follower(tmp_path, start_at="beginning")
    made.write(*(f"a{n}" for n in range(100)))
    report = made.source.pull({}, now_ms=NOW_MS)
    assert report.more
    made.cursor = dict(report.cursor or {})
    os.truncate(made.path, 0)
    made.write("a3600")
    assert made.pull() == ["a3600"]
    assert (made.counts["truncated_files"], made.counts["lost_files"]) == (0, 1)


def test_a_cursor_of_before_sizes_were_kept_finds_its_place(follower: Follower) -> None:
    del follower.cursor["size"]
    follower.write("a3")
    assert follower.pull() == ["a3"]
    del follower.cursor["size"]
    os.truncate(follower.path, 0)
    follower.write("a3600")
    assert follower.pull() == ["a3600"]
    assert follower.counts["lost_files"] == 1


def test_an_older_log_beside_it_is_never_read(tmp_path: Path) -> None:
    made = Follower(tmp_path, start_at="beginning")
    made.write("a1", path=tmp_path / "access.log.2")
    made.write("a50")
    assert made.pull() == ["a50"]
    made.path.rename(tmp_path / "access.log.1")
    made.write("a60")
    assert made.pull() == ["a60"]


def test_a_log_begun_at_its_end_gives_only_what_comes(tmp_path: Path) -> None:
    made = Follower(tmp_path)
    made.write("a1")
    with made.path.open("ab") as log:
        log.write(numbered("a2")[:50])
    assert made.pull() == []
    with made.path.open("ab") as log:
        log.write(numbered("a2")[50:] + b"\n")
    assert made.pull() == ["a2"]


def test_a_log_that_appears_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    made = Follower(tmp_path)
    with pytest.raises(SourceUnavailable) as caught:
        made.pull()
    assert "'log'" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    made.write("a1")
    assert made.pull(afresh=False) == ["a1"]


def test_a_folder_in_the_place_of_the_log_is_unavailable(tmp_path: Path) -> None:
    made = Follower(tmp_path)
    made.path.mkdir()
    with pytest.raises(SourceUnavailable):
        made.pull()


def test_what_one_pull_reads_is_bounded_and_the_rest_follows_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PULL_BYTES", 2000)
    monkeypatch.setattr(follow, "HEAD_BYTES", 200)
    made = Follower(tmp_path, start_at="beginning")
    names = [f"a{n}" for n in range(500)]
    made.write(*names)
    report = made.source.pull({}, now_ms=NOW_MS)
    assert report.more
    assert 0 < len(report.observations) < 30
    assert made.pull() == names


def test_coverage_is_unbroken_from_pull_to_pull(follower: Follower) -> None:
    for _ in range(3):
        follower.pull()
    assert all(before[1] == after[0] for before, after in zip(follower.spans, follower.spans[1:], strict=False))


def test_the_cursor_holds_no_address_no_agent_and_no_path(follower: Follower, tmp_path: Path) -> None:
    kept = json.dumps(follower.cursor)
    assert "192.0.2" not in kept
    assert "a1" not in json.dumps({k: v for k, v in follower.cursor.items() if k not in ("print", "inode", "done")})
    assert str(tmp_path) not in kept


STEPS = st.lists(
    st.sampled_from(["write", "partial", "pull", "rename", "create", "copytruncate", "truncate", "restart"]),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_whatever_happens_to_the_log_each_line_is_heard_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    made = Follower(tmp_path_factory.mktemp("logs"), start_at="beginning")
    made.write("a0")
    made.pull()
    written, number, begun = ["a0"], 0, b""
    for step in steps:
        if step in ("write", "partial"):
            number += 1
            text = numbered(f"a{number}") + b"\n"
            with made.path.open("ab") as log:
                log.write(begun + (text if step == "write" or begun else text[:40]))
            if step == "partial" and not begun:
                begun = text[40:]
                written.append(f"a{number}")
            else:
                written.append(f"a{number}")
                begun = b""
        elif step == "pull":
            made.pull()
        elif step == "restart":
            made.source = AccessLogSource("log", MOUNTS, made.options)
        elif step == "truncate":
            if not begun:
                made.pull()
                os.truncate(made.path, 0)
        elif not begun and made.path.stat().st_size:
            rotated = made.path.with_name(f"access.log.{1000 - number}.{len(written)}")
            if rotated.exists():
                continue
            if step == "copytruncate":
                shutil.copy(made.path, rotated)
                os.truncate(made.path, 0)
            else:
                made.path.rename(rotated)
                made.path.touch()
    with made.path.open("ab") as log:
        log.write(begun)
    number += 1
    made.write(f"a{number}")
    made.pull()
    assert made.heard == [*written, f"a{number}"], steps
    assert made.counts["lost_files"] == 0


@pytest.mark.parametrize(
    "options", [{}, {"path": "access.log"}, {"path": "/x", "start_at": "middle"}, {"path": "/x", "poll_seconds": 0}]
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        AccessLogSource("log", MOUNTS, options)
