"""HLS clients as they truly were, beside what the source makes of nginx's log."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aircox_listen_stats.kernel.identity import normalise_agent, normalise_ip
from aircox_listen_stats.kernel.sessionize import stitch
from aircox_listen_stats.kernel.types import ConnectionSpan, Observation, SessionSpan
from aircox_listen_stats.sources.hls import HlsSource

FOLDER = Path(__file__).resolve().parent.parent / "data" / "hls"
MS = 1000
MASTER = {"/hls/live.m3u8": "live"}
TARGET_SECONDS = 3
"""#EXT-X-TARGETDURATION of the recorded run."""

NEAR_SECONDS = 5.0
"""A told session that begins so near a client's start is that client's."""

Who = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A scripted client: when it played, pauses left out."""

    label: str
    ip: str
    agent: str
    is_named: bool
    parts: tuple[tuple[float, float], ...]  # seconds since 1970
    segments: int = 0

    @property
    def who(self) -> Who:
        return normalise_ip(self.ip), normalise_agent(self.agent)

    @property
    def seconds(self) -> float:
        return sum(stop - start for start, stop in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    client: Client
    told: SessionSpan

    @property
    def start_error(self) -> float:
        return self.told.started_ms / MS - self.client.parts[0][0]

    @property
    def end_error(self) -> float:
        return self.told.ended_ms / MS - self.client.parts[-1][1]

    @property
    def time_error(self) -> float:
        return self.told.played_ms / MS - self.client.seconds


def recorded_clients() -> list[Client]:
    """The clients of the recorded run; a pause is in seconds from the run's start."""
    truth = json.loads((FOLDER / "ground_truth_hls.json").read_text())
    found = []
    for one in truth["clients"]:
        parts = [(one["t_start"], one["t_stop"])]
        if one.get("pause"):
            begins, ends = (truth["t0"] + second for second in one["pause"])
            parts = [(one["t_start"], begins), (ends, one["t_stop"])]
        found.append(
            Client(
                label=one["label"],
                ip=one["ip"],
                agent=one["agent"],
                is_named=bool(one.get("session") or one.get("query")),
                parts=tuple(parts),
                segments=one.get("segments", 0),
            )
        )
    return found


def source(path: Path, **options: Any) -> HlsSource:
    """A source that reads ``path`` from its beginning."""
    return HlsSource(
        "hls", MASTER, {"path": str(path), "start_at": "beginning", "target_seconds": TARGET_SECONDS, **options}
    )


def merged(known: dict[str, Observation], told: Iterable[Observation]) -> dict[str, Observation]:
    """What a database knows after being told: each client's earliest start and latest sighting."""
    for one in told:
        assert one.client is not None
        before = known.get(one.client, one)
        known[one.client] = replace(
            one,
            started_ms=min(one.started_ms, before.started_ms),
            seen_ms=max(one.seen_ms, before.seen_ms),
            bytes_sent=max(one.bytes_sent or 0, before.bytes_sent or 0),
        )
    return known


def sessions(told: Mapping[str, Observation]) -> dict[Who, list[SessionSpan]]:
    """The sessions of each address and agent."""
    by_who: dict[Who, list[ConnectionSpan]] = defaultdict(list)
    for key, one in told.items():
        assert one.address is not None
        who = (normalise_ip(one.address.ip), normalise_agent(one.address.agent))
        by_who[who].append(
            ConnectionSpan(key=key, started_ms=one.started_ms, seen_ms=one.seen_ms, is_open=not one.ended)
        )
    return {who: stitch(spans) for who, spans in by_who.items()}


def match(
    told: Mapping[Who, Sequence[SessionSpan]], clients: Sequence[Client]
) -> tuple[list[Match], list[tuple[Who, SessionSpan]], list[Client]]:
    """Pairs of one address and agent, the nearest starts first; what is left on either side."""
    pairs = sorted(
        (
            (abs(span.started_ms / MS - client.parts[0][0]), number, index)
            for number, client in enumerate(clients)
            for index, span in enumerate(told.get(client.who, ()))
        ),
    )
    matches: list[Match] = []
    met: set[int] = set()
    taken: set[tuple[Who, int]] = set()
    for away, number, index in pairs:
        client = clients[number]
        if away <= NEAR_SECONDS and number not in met and (client.who, index) not in taken:
            met.add(number)
            taken.add((client.who, index))
            matches.append(Match(client=client, told=told[client.who][index]))
    extra = [(who, span) for who, some in told.items() for index, span in enumerate(some) if (who, index) not in taken]
    return matches, extra, [client for number, client in enumerate(clients) if number not in met]


def mean_error(matches: Sequence[Match]) -> float:
    """Mean of the absolute errors of listening time, in seconds."""
    return statistics.fmean(abs(one.time_error) for one in matches)


def table(title: str, matches: Sequence[Match], target_seconds: float) -> str:
    """Each client's truth beside what was told, in seconds, and beside counting its segments."""
    lines = [
        title,
        f"  {'client':16} {'id':3} {'true':>7} {'told':>7} {'error':>6} {'start':>6} {'end':>6}  by segments",
    ]
    for one in sorted(matches, key=lambda one: one.client.parts[0][0]):
        naive = (
            f"{one.client.segments * target_seconds - one.client.seconds:+6.1f}" if one.client.segments else "     -"
        )
        lines.append(
            f"  {one.client.label:16} {'yes' if one.client.is_named else 'no':3} {one.client.seconds:7.1f}"
            f" {one.told.played_ms / MS:7.1f} {one.time_error:+6.2f} {one.start_error:+6.2f} {one.end_error:+6.2f}"
            f"  {naive}"
        )
    for name, some in (
        ("with id", [one for one in matches if one.client.is_named]),
        ("without id", [one for one in matches if not one.client.is_named]),
        ("all", matches),
    ):
        if some:
            errors = [one.time_error for one in some]
            lines.append(
                f"  {name:12} n={len(some):3}  error of listening time: mean |e| {mean_error(some):.2f}, "
                f"min {min(errors):+.2f}, median {statistics.median(errors):+.2f}, max {max(errors):+.2f}"
            )
    return "\n".join(lines)
