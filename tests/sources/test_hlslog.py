"""An HLS log read whole tells what following it tells."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aircox_listen_stats.kernel.identity import normalise_agent, normalise_ip
from aircox_listen_stats.sources.hls import HlsSource
from aircox_listen_stats.sources.hlslog import FinishedStretches, read_stretches
from tests.sources import hls_run
from tests.sources.hls_run import MASTER
from tests.sources.test_hls import COMBINED_LOG, FOLDER, JSON_LOG, NOW_MS, follow, record, told_by

Row = tuple[Any, ...]


def rows(found: FinishedStretches) -> list[Row]:
    who = [found.addresses[number] for number in found.who.tolist()]
    return [
        (stream, start, end, normalise_ip(one.ip), normalise_agent(one.agent), *more)
        for stream, start, end, one, *more in zip(
            found.stream,
            found.started_ms.tolist(),
            found.ended_ms.tolist(),
            who,
            found.bytes_sent.tolist(),
            found.delivered_ms.tolist(),
            found.rendition,
            found.switches.tolist(),
            [one or None for one in found.referrer],
            found.identity_known.tolist(),
            strict=True,
        )
    ]


def read(source: HlsSource, lines: list[bytes], **more: Any) -> tuple[list[Row], Counter[str]]:
    """All stretches, sorted, and what became of the lines."""
    told: list[Row] = []
    counts: Counter[str] = Counter()
    for found in read_stretches(lines, source, now_ms=NOW_MS, **more):
        told += rows(found)
        counts.update(found.lines.by_reason)
    return sorted(told), counts


def followed(source: HlsSource) -> tuple[list[Row], Counter[str]]:
    """The same by following."""
    reports, _ = follow(source, {})
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
    told = [
        (one.stream, one.started_ms, one.seen_ms, normalise_ip(one.address.ip), normalise_agent(one.address.agent),
         one.bytes_sent, one.delivered_ms, one.rendition, one.switches, one.referrer, one.identity_known)
        for one in told_by(reports).values()
        if one.address is not None
    ]  # fmt: skip
    return sorted(told), counts


@pytest.mark.parametrize("batch", [1, 40, 250_000])
@pytest.mark.parametrize("log", [JSON_LOG, COMBINED_LOG, FOLDER / "malformed.log"], ids=lambda path: path.stem)
def test_a_log_read_whole_tells_what_following_it_tells(log: Path, batch: int) -> None:
    source = hls_run.source(log, segment_seconds=3.04)
    assert read(source, log.read_bytes().split(b"\n"), batch_requests=batch) == followed(source)


def crowd(seed: int) -> list[bytes]:
    """Lines of players of all kinds behind few addresses, as nginx would write them."""
    random = np.random.default_rng(seed)
    lines = []
    for player in range(30):
        at = 1_795_312_000 + float(random.uniform(0, 600))
        number, rendition = int(at // 3), "hi"
        session = f"s{player}" if random.random() < 0.5 else ""
        who: dict[str, Any] = {
            "remote_addr": f"192.0.2.{random.integers(1, 9)}",
            "agent": ("hls.js/1.5", "Exo/2")[random.integers(2)],
            "session": session,
        }
        if player % 4:
            who["referer"] = ("", "https://radio.example/live", "https://www.example.org/?sid=1")[player % 3]
        if random.random() < 0.7:
            lines.append((at, record("/hls/live.m3u8", at, **who)))
        for _ in range(int(random.integers(1, 80))):
            if random.random() < 0.03:
                rendition = ("hi", "lo")[random.integers(2)]
            if random.random() < 0.02:
                pause = float(random.uniform(4, 60))
                at, number = at + pause, number + int(pause // 3)
            odd = random.random()
            more: dict[str, Any] = {"completion": ""} if odd < 0.01 else {"status": 404} if odd < 0.02 else {}
            more["request_time"] = f"{random.uniform(0, 0.05):.3f}"
            line = record(f"/hls/{rendition}_{number}.ts", at, **who, **more)
            lines.append((at, line))
            at, number = at + 3, number + 1
    return [line for _, line in sorted(lines, key=lambda one: one[0])]


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_of_players_is_told_alike_in_batches_and_by_following(tmp_path: Path, seed: int) -> None:
    lines = crowd(seed)
    path = tmp_path / "hls.log"
    path.write_bytes(b"\n".join(lines) + b"\n")
    source = hls_run.source(path)
    expected = followed(source)
    assert len(expected[0]) > 30
    for batch in (97, 250_000):
        assert read(source, lines, batch_requests=batch) == expected


def test_stretches_come_out_when_they_are_over(tmp_path: Path) -> None:
    """An import holds what may go on, and nothing that is over."""
    early = [record(f"/hls/hi_{n}.ts", 1_795_312_000 + 3 * n, session="early") for n in range(5)]
    late = [record(f"/hls/hi_{n}.ts", 1_795_312_000 + 3 * n, session="late") for n in range(40, 45)]
    first, *_, last = read_stretches(
        [*early, *late], hls_run.source(tmp_path / "none"), now_ms=NOW_MS, batch_requests=6
    )
    assert (len(first), first.lines.by_reason["kept"], len(last)) == (1, 6, 1)
    assert first.lines.last_ms == 1_795_312_120_000
    assert last.ended_ms.tolist() == [1_795_312_000_000 + 3000 * 45]


def test_behind_a_proxy_of_ours_the_forwarded_address_is_the_listener(tmp_path: Path) -> None:
    made = HlsSource(
        "hls", MASTER, {"path": str(tmp_path / "none"), "target_seconds": 3}, trusted_proxies=["127.0.0.0/8"]
    )
    lines = [
        record(remote_addr="127.0.0.1", xff="198.51.100.9, 203.0.113.5"),
        record("/hls/hi_13.ts", 1_795_313_003.0, remote_addr="127.0.0.2", xff="203.0.113.5"),
        record(remote_addr="127.0.0.1", xff=""),
    ]
    told, _ = read(made, lines)
    assert [(row[3], row[-1], row[2] - row[1]) for row in told] == [
        ("127.0.0.1", False, 3000),
        ("203.0.113.5", True, 6000),
    ]


def test_no_repr_shows_anybody(tmp_path: Path) -> None:
    lines = [json.dumps({**json.loads(record()), "session": "tr0ub4dor"}).encode()]
    (found,) = read_stretches(lines, hls_run.source(tmp_path / "none"), now_ms=NOW_MS)
    assert len(found) == 1
    assert "192.0.2" not in repr(found)
    assert "tr0ub4dor" not in repr(found)
