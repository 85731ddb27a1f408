"""The recorded seven minutes of a real Icecast 2.4.4, and what its clients truly did."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from aircox_listen_stats.kernel.identity import normalise_agent, normalise_ip
from aircox_listen_stats.kernel.types import Observation

FOLDER = Path(__file__).resolve().parent.parent / "data" / "icecast"
MS = 1000
MOUNTS = {"/live.mp3": "live", "/low.mp3": "low", "/live.ogg": "ogg"}


def rows(name: str) -> list[dict[str, Any]]:
    """The lines of a recorded .jsonl file."""
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


@cache
def truth() -> dict[str, Any]:
    """When each client really started and stopped, and what was done to the server meanwhile."""
    return json.loads((FOLDER / "ground_truth.json").read_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A scripted client as it truly was."""

    label: str
    stream: str
    ip: str
    agent: str
    started_ms: float
    ended_ms: float
    status: int | None
    method: str
    ended_by: str
    heard: bool  # audio was sent to it

    @property
    def seconds(self) -> float:
        return (self.ended_ms - self.started_ms) / MS


@cache
def clients() -> tuple[Client, ...]:
    """Every client that asked Icecast for one of the three mounts, odd ones included."""
    found = []
    for one in truth()["clients"]:
        if one["via"] == "hls" or one["mount"] not in MOUNTS:
            continue
        found.append(
            Client(
                label=one["label"],
                stream=MOUNTS[one["mount"]],
                # Icecast sees its proxy, not who is behind it.
                ip=normalise_ip(one["ip"] if one["via"] == "direct" else "127.0.0.1"),
                agent=normalise_agent(one["agent"] or ""),
                started_ms=one["t_start"] * MS,
                ended_ms=one["t_stop"] * MS,
                status=one.get("status"),
                method=one["method"],
                ended_by=one["ended_by"],
                # ffmpeg and curl tell neither a status nor a first byte, and always played;
                # the stuck one never read what was sent to it.
                heard=one.get("status") == 200 or one["tool"] != "raw" or one["label"].startswith("stuck"),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A session as a source tells it, with who it was (tests only)."""

    stream: str
    ip: str
    agent: str
    started_ms: int
    ended_ms: int
    ended: bool


def told_of(one: Observation, address: Any) -> Told:
    return Told(
        stream=one.stream,
        ip=normalise_ip(address.ip),
        agent=normalise_agent(address.agent),
        started_ms=one.started_ms,
        ended_ms=one.seen_ms,
        ended=one.ended,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    client: Client
    told: Told

    @property
    def start_error_s(self) -> float:
        return (self.told.started_ms - self.client.started_ms) / MS

    @property
    def end_error_s(self) -> float:
        return (self.told.ended_ms - self.client.ended_ms) / MS


START_TOLERANCE_MS = 3 * MS
"""Within this, a told session of the same address, agent and stream is the client's."""


def match(told: Iterable[Told], true: Sequence[Client]) -> tuple[list[Match], list[Told], list[Client]]:
    """Pairs by address, agent and stream, the nearest in time first; what is left on either side."""
    told = list(told)
    pairs = sorted(
        (
            (abs(client.started_ms - one.started_ms) + abs(client.ended_ms - one.ended_ms), index, number)
            for index, one in enumerate(told)
            for number, client in enumerate(true)
            if (client.stream, client.ip) == (one.stream, one.ip)
            and _same_agent(client.agent, one.agent)
            and abs(client.started_ms - one.started_ms) <= START_TOLERANCE_MS
        ),
    )
    taken_told: set[int] = set()
    taken_true: set[int] = set()
    matches = []
    for _, index, number in pairs:
        if index not in taken_told and number not in taken_true:
            taken_told.add(index)
            taken_true.add(number)
            matches.append(Match(client=true[number], told=told[index]))
    rest = [one for index, one in enumerate(told) if index not in taken_told]
    return matches, rest, [one for number, one in enumerate(true) if number not in taken_true]


def _same_agent(true: str, told: str) -> bool:
    """Ears spell an agent's odd bytes differently; the admin page drops one with a control byte whole."""
    return true == told or not told or (min(len(true), len(told)) >= 3 and true[:3] == told[:3])


def spread(values: Sequence[float]) -> str:
    return f"{min(values):+.2f} / {statistics.median(values):+.2f} / {max(values):+.2f}"


def table(title: str, matches: Sequence[Match], more: Sequence[str] = ()) -> str:
    """The errors in seconds (min / median / max), for MP3 and Ogg, and what else is to be said."""
    lines = [title, f"  {'':10} {'n':>4}  {'start: min / median / max':28} end: min / median / max"]
    for name, some in (
        ("MP3", [one for one in matches if one.client.stream != "ogg"]),
        ("Ogg", [one for one in matches if one.client.stream == "ogg"]),
    ):
        if some:
            start = spread([one.start_error_s for one in some])
            end = spread([one.end_error_s for one in some])
            lines.append(f"  {name:10} {len(some):4}  {start:28} {end}")
    return "\n".join([*lines, *(f"  {line}" for line in more)])


class RecordedIcecast(httpx.BaseTransport):
    """Icecast's admin pages as they were recorded; ``now_s`` says which poll is meant.

    The statistics page was recorded once a minute: it is the one of the same
    run of the server, which started anew at the recorded event.
    """

    def __init__(self) -> None:
        self.polls = rows("polls.jsonl")
        self.now_s = 0.0
        self.asked: list[str] = []
        self.restarted_s = next(e["t"] for e in truth()["events"] if e["event"] == "icecast started")

    def rounds(self) -> list[float]:
        """The instants of the polls: one for each time that the first mount was listed."""
        return [one["t"] for one in self.polls if one["path"] == "/admin/listclients?mount=/live.mp3"]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode()
        self.asked.append(target)
        page = self._page(target)
        if page is None:
            return httpx.Response(400, text="<html><body><b>400 - Source does not exist</b></body></html>")
        return httpx.Response(page["status"], content=page["body"].encode(), headers={"Content-Type": page["ctype"]})

    def _page(self, target: str) -> dict[str, Any] | None:
        pages = [one for one in self.polls if one["path"] == target]
        if target == "/admin/stats":
            same_run = [one for one in pages if (one["t"] > self.restarted_s) == (self.now_s > self.restarted_s)]
            return min(same_run, key=lambda one: abs(one["t"] - self.now_s))
        return next((one for one in pages if abs(one["t"] - self.now_s) < 5), None)


def at(instant_s: float) -> int:
    return round(instant_s * MS)


Explained = Mapping[str, Callable[[Client], bool]]


def explain(left: Sequence[Client], reasons: Explained) -> tuple[dict[str, list[str]], list[Client]]:
    """The labels of the clients by the first reason that fits; those that none fits."""
    by_reason: dict[str, list[str]] = {}
    unexplained = []
    for client in left:
        for reason, fits in reasons.items():
            if fits(client):
                by_reason.setdefault(reason, []).append(client.label)
                break
        else:
            unexplained.append(client)
    return by_reason, unexplained
