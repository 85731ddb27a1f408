"""Blocks of the access log: what the line parser says of each line, whatever the line."""

from __future__ import annotations

import gzip
import io
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aircox_listen_stats.errors import SourceUnavailable
from aircox_listen_stats.sources import logblocks, logfile
from aircox_listen_stats.sources.accesslog import LogFile, read_chunks
from aircox_listen_stats.sources.logblocks import BlockReader, LogColumns
from aircox_listen_stats.sources.logfile import BlockLog
from tests.sources.recording import FOLDER, MOUNTS

RECORDED = (FOLDER / "icecast_access.log").read_bytes()
MALFORMED = (FOLDER / "malformed_access.log").read_bytes()


def by_lines(log: bytes) -> tuple[list[tuple[Any, ...]], Counter[str]]:
    """What the line parser says."""
    rows, counts = [], Counter[str]()
    for chunk in read_chunks(io.BytesIO(log), MOUNTS):
        counts.update(chunk.counts)
        rows += [
            (start, end, stream, chunk.addresses[who].ip, chunk.addresses[who].agent)
            for start, end, stream, who in zip(chunk.started_ms, chunk.ended_ms, chunk.stream, chunk.who, strict=True)
        ]
    return rows, +counts


class Told:
    """The columns of one reading, as rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.counts: Counter[str] = Counter()
        self.ips: list[str] = []
        self.agents: list[str] = []
        self.beginnings = 0

    def take(self, columns: LogColumns) -> None:
        if columns.is_afresh:
            self.ips, self.agents = [], []
            self.beginnings += 1
        self.ips += columns.ips
        self.agents += columns.agents
        self.counts.update(columns.counts)
        self.rows += [
            (start, end, stream, self.ips[ip], self.agents[agent])
            for start, end, stream, ip, agent in zip(
                columns.started_ms.tolist(),
                columns.ended_ms.tolist(),
                columns.stream.tolist(),
                columns.ip.tolist(),
                columns.agent.tolist(),
                strict=True,
            )
        ]


def by_blocks(log: bytes, *, reader: BlockReader | None = None) -> tuple[list[tuple[Any, ...]], Counter[str]]:
    told = Told()
    told.take((reader or BlockReader(MOUNTS)).read(log, len(log)))
    return told.rows, +told.counts


def from_file(path: Path, offset: int = 0) -> Told:
    told = Told()
    for columns in BlockLog(path).columns(MOUNTS, offset=offset):
        told.take(columns)
    return told


def line(
    *,
    head: str = "192.0.2.7 - - ",
    stamp: str = "22/Nov/2026:01:54:40 +0000",
    request: str = "GET /live.mp3 HTTP/1.1",
    numbers: str = " 200 5000 ",
    referer: str = "-",
    agent: str = "VLC/3.0.20",
    tail: str = " 12",
) -> bytes:
    return f'{head}[{stamp}] "{request}"{numbers}"{referer}" "{agent}"{tail}'.encode("latin-1")


ODD_LINES = [
    line(),
    line(head="2001:db8::1 - - "),
    line(head="192.0.2.7 - a user - - "),
    line(head="192.0.2.7  - - "),
    line(head=" - - "),
    line(head="- - "),
    line(head="192.0.2.\xe9 - - "),
    line(head="192.0.2.7 - listener "),
    line(head="192.0.2.7 x - "),
    line(stamp="22/Nov/2026:01:54:60 +0000"),
    line(stamp="22/Nov/2026:01:5a:40 +0000"),
    line(stamp="22/Nov/2026:01-54:40 +0000"),
    line(stamp="22/nov/2026:01:54:40 +0000"),
    line(stamp="22/Nov/2026:24:54:40 +0000"),
    line(stamp="01/Jan/1970:00:00:05 +0000"),
    line(stamp="22/Nov/2026:01:54:40 -0730"),
    line(stamp="[22/Nov/2026:01:54:40 +0000"),
    line(request="GET /live.mp3"),
    line(request=""),
    line(request='GET /live.mp3?token=\\" HTTP/1.1'),
    line(request="HEAD /live.mp3 HTTP/1.1"),
    line(numbers=" 206 5000 "),
    line(numbers=" 200 0 "),
    line(numbers=" 200 000 "),
    line(numbers=" 200 - "),
    line(numbers=" 200 -- "),
    line(numbers=" 200  "),
    line(numbers=" 200 99999999999999999999 "),
    line(numbers=" 200 12345678 "),
    line(numbers=" 200 123456789 "),
    line(numbers=" 200 0000000000000000 "),
    line(numbers=" 200 12:4 "),
    line(numbers=" 20a 5000 "),
    line(numbers=" 2000 5000 "),
    line(numbers="200 5000 "),
    line(numbers=" 200 5000"),
    line(numbers=" 200 5 00 "),
    line(referer="https://radio.example/"),
    line(agent='an \\"escaped\\" agent'),
    line(agent='an "unescaped" agent'),
    line(agent="a back\\slash"),
    line(agent=""),
    line(agent="-"),
    line(agent="R\xe9cepteur \x01\xff"),
    line(agent="x" * 130),
    line(agent="x" * 192),
    line(agent="x" * 193),
    line(agent="x" * 900),
    line(agent="a\0b"),
    line(tail=" 0"),
    line(tail=" 007"),
    line(tail=" 31536000"),
    line(tail=" 99999999"),
    line(tail=" 999999999"),
    line(tail=" 0000000012"),
    line(tail=" 1234567890123"),
    line(tail="  12"),
    line(tail=" 12 "),
    line(tail=" -1"),
    line(tail=" 1:"),
    line(tail=""),
    line(tail="12"),
    line() + b"\r",
    b"\0" + line(),
    line() + b"\0\0",
    line(agent="x" * 2000)[:1023],
    line(agent="x" * 70_000),
    b"",
    b"\r",
    b'"' * 6,
    b'x "" "" "" 1',
    b"no log line at all",
]


def test_every_odd_line_is_read_or_refused_as_the_line_parser_does() -> None:
    for odd in ODD_LINES:
        assert by_blocks(odd + b"\n") == by_lines(odd + b"\n"), odd[:120]
    log = b"\n".join(ODD_LINES) + b"\n"
    assert by_blocks(log) == by_lines(log)
    assert len(by_lines(log)[0]) > 30


def test_plain_lines_never_meet_the_line_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    met = []
    monkeypatch.setattr(logblocks, "line_fields", lambda one: met.append(one))
    rows, _ = by_blocks(b"\n".join([line(), line(head="2001:db8::1 - - "), line(agent="x" * 300)]) + b"\n")
    assert len(rows) == 3
    assert met == []


@pytest.mark.parametrize("few", [0, 1000])
def test_the_recorded_logs_are_read_alike(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logblocks, "FEW", few)
    for log in (RECORDED, MALFORMED + b"\n", RECORDED * 3):
        assert by_blocks(log) == by_lines(log)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*RECORDED.splitlines(), *ODD_LINES[:8]]),
            st.integers(0, 300),
            st.integers(0, 20),
            st.one_of(
                st.just(b""), st.binary(max_size=4), st.sampled_from([b'"', b"\\", b" ", b'" ', b"]", b"0", b"-"])
            ),
        ),
        min_size=1,
        max_size=12,
    )
)
@example([(line(), 14, 0, b"[")])
def test_any_damage_is_read_alike_by_both(lines: list[tuple[bytes, int, int, bytes]]) -> None:
    log = b"\n".join(good[:place] + bad + good[place + cut :] for good, place, cut, bad in lines) + b"\n"
    assert by_blocks(log) == by_lines(log)


def test_what_was_met_in_earlier_blocks_keeps_its_numbers() -> None:
    reader, told = BlockReader(MOUNTS), Told()
    blocks = [b"\n".join(ODD_LINES) + b"\n", RECORDED, RECORDED, b"\n".join(ODD_LINES[::-1]) + b"\n"]
    for block in blocks:
        told.take(reader.read(block, 0))
    assert told.rows == [row for block in blocks for row in by_lines(block)[0]]
    assert told.beginnings == 1


def test_numbers_begin_again_where_too_much_would_be_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logblocks, "REMEMBERED", 50)
    reader, told = BlockReader(MOUNTS), Told()
    blocks = [
        b"".join(
            line(head=f"192.0.2.{n} - - ", request=f"GET /live.mp3?n={n} HTTP/1.1") + b"\n" for n in range(at, at + 30)
        )
        for at in range(0, 200, 30)
    ]
    for block in blocks:
        told.take(reader.read(block, 0))
    assert told.rows == [row for block in blocks for row in by_lines(block)[0]]
    assert told.beginnings > 2
    assert len(told.ips) <= 80


# Files -----------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    chance = random.Random(2)
    lines = [chance.choice(ODD_LINES[:66]) if chance.random() < 0.05 else line(
        head=f"198.18.{chance.randrange(9)}.{chance.randrange(250)} - - ", tail=f" {chance.randrange(100_000)}"
    ) for _ in range(4000)]  # fmt: skip
    path = tmp_path / "access.log"
    path.write_bytes(b"\n".join(lines) + b"\n" + line()[:-1])
    return path


@pytest.mark.parametrize("block_bytes", [500, 4096, 1 << 21])
def test_the_size_of_the_blocks_changes_nothing(log: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(logfile, "BLOCK_BYTES", block_bytes)
    told = from_file(log)
    rows, counts = by_lines(log.read_bytes())
    assert told.rows == rows
    assert told.counts["skipped_unfinished_line"] == 1
    assert told.counts == counts


def test_compressed_logs_read_as_plain_ones(log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert from_file(packed).rows == from_file(log).rows


def test_reading_goes_on_at_an_offset(log: Path) -> None:
    first = next(iter(BlockLog(log).columns(MOUNTS)))
    with log.open("ab") as more:
        more.write(b"2\n" + line(agent="later") + b"\n")
    assert [row[4] for row in from_file(log, first.offset).rows] == ["VLC/3.0.20", "later"]


@pytest.mark.parametrize(("suffix", "starting"), [("", 0), ("", 3000), ("", 1 << 30), (".gz", 0)])
def test_a_process_of_its_own_reads_the_same(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, starting: int
) -> None:
    path = tmp_path / f"other{suffix}"
    path.write_bytes(gzip.compress(log.read_bytes()) if suffix else log.read_bytes())
    here = from_file(path)
    assert path.stat().st_size > 3000
    monkeypatch.setattr(logfile, "OWN_PROCESS_BYTES", 0)
    monkeypatch.setattr(logfile, "STARTING_BYTES", starting)
    there = from_file(path)
    assert (there.rows, there.counts) == (here.rows, here.counts)
    assert children() == []


def test_a_process_that_finds_the_log_broken_says_so_here(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes() * 20)[:-200])
    monkeypatch.setattr(logfile, "OWN_PROCESS_BYTES", 0)
    with pytest.raises(SourceUnavailable, match=r"complete \.gz"):
        from_file(packed)
    assert children() == []


def test_a_process_that_is_killed_is_no_end_of_the_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with log.open("ab") as more:
        for _ in range(60):
            more.write(b"\n" + b"\n".join([line()] * 30_000))
    monkeypatch.setattr(logfile, "OWN_PROCESS_BYTES", 0)
    monkeypatch.setattr(logfile, "BLOCKS_AHEAD", 1)
    reading = BlockLog(log).columns(MOUNTS)
    next(reading)
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    with pytest.raises(SourceUnavailable, match="cannot be read to its end"):
        list(reading)


def test_who_stops_listening_ends_the_process(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "OWN_PROCESS_BYTES", 0)
    monkeypatch.setattr(logfile, "BLOCK_BYTES", 5000)
    of_others = set(threading.enumerate())
    reading = BlockLog(log).columns(MOUNTS)
    next(reading)
    assert len(children()) == 1
    reading.close()
    assert children() == []
    assert not [one for one in set(threading.enumerate()) - of_others if one.name.startswith("listen-stats")]


def children() -> list[int]:
    """The reading processes that live; multiprocessing's own tracker is none."""
    import multiprocessing

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        alive = [one.pid for one in multiprocessing.active_children() if one.pid is not None]
        if len(alive) < 2:
            return alive
        time.sleep(0.05)
    return alive


def test_long_connections_are_found_by_their_last_field(tmp_path: Path) -> None:
    """Behind a carriage return or a NUL too; shorter ones, and digits that are no seconds, are left out."""
    path = tmp_path / "access.log"
    long = [" 86400", " 90000", " 100000", " 90001\r", " 90002\0", " 90003\0\r", " 90004\r\r"]
    short = [line(), line(tail=" 86399"), line(agent="tricky 99999"), line(agent="1234", tail=" 5"), b"5", b"12345"]
    path.write_bytes(b"\n".join([*short, *(line(tail=one) for one in long)]) + b"\n" + line(tail=" 99999"))
    told = Told()
    for columns in BlockLog(path).long_columns(MOUNTS, seconds=86400):
        told.take(columns)
    found = sorted((end - start) // 1000 for start, end, *_ in told.rows)
    assert found == [86_400, 90_000, 90_001, 90_002, 90_003, 90_004, 100_000]


def test_a_line_without_an_end_is_refused_and_what_follows_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(line() + b"\n" + b"x" * 5_000_000 + b"\n" + line(agent="later") + b"\n")
    told = from_file(path)
    assert [row[4] for row in told.rows] == ["VLC/3.0.20", "later"]
    assert told.counts["refused_too_long"] >= 1
    assert BlockLog(path).length() == path.stat().st_size == list(BlockLog(path).columns(MOUNTS))[-1].offset


def test_a_file_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        BlockLog(tmp_path / "nothing.log")
    assert issubclass(BlockLog, LogFile)
