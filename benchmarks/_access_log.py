"""The access log of a busy Icecast, made by arithmetic from a seed: always the same lines.

A hundred days, in the order of the ends as Icecast writes them: five million
lines are a station with 50,000 a day, and half a million one with a tenth of
its listeners. Of a day's listeners most are not there on another day, one in
ten reconnects; a few lines in a hundred are no listening (polls, playlists, refusals), and a
few in a thousand are what trips a parser: agents with escaped quotes, lines
that Icecast cut, bytes that are no text.

    python -m benchmarks._access_log FILE [LINES]
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np

from benchmarks._hours import BY_HOUR

MOUNTS = {"/live.mp3": "live", "/low.mp3": "low"}
DAYS = 100
END_S = 1_795_305_600
"""2026-11-22 00:00 UTC: the last one has tuned in."""
DAY_S = 86_400
POPULATION = 8
"""So many different listeners for each line of a day."""
ESCAPED_QUOTES, CUT, ODD_BYTES = 0.002, 0.0002, 0.0005
"""Shares of the lines that trip a parser. The first is what a station's log held."""
NO_LISTENING = 0.04
LONG_LISTENING = 0.0005
"""Radios that are left on for more than a day."""
RECONNECTS = 0.16
CUT_CHARACTERS = 1023

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{1}.{2}"
BROWSERS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/{{0}}.0.0.0 Safari/537.36",
    f"Mozilla/5.0 (Linux; Android {{1}}; SM-G99{{2}}B) {_WEBKIT} Chrome/{{0}}.0.0.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS {{1}}_{{2}} like Mac OS X) {_SAFARI} Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_{{2}}) {_SAFARI} Safari/605.1.15",
)
PLAYERS = (
    "VLC/3.0.{2} LibVLC/3.0.{2}",
    "AppleCoreMedia/1.0.0.{0}F{2} (iPhone; U; CPU OS {1}_{2} like Mac OS X; fr_be)",
    "Dalvik/2.1.0 (Linux; U; Android {1}; Pixel {2} Build/TQ{0})",
    "TuneIn Radio/{0}.{2}; iPhone{1},{2}; iOS/{1}.{2}",
    "Linux UPnP/1.0 Sonos/{0}.{2}-{1} (ZPS{2})",
    "Lavf/{0}.{1}.{2}",
    "NSPlayer/12.0{2}.{0}.{1} WMFSDK/12.00",
    "GStreamer souphttpsrc 1.{1}.{2} libsoup/2.{0}.{2}",
    "ExoPlayerLib/2.{1}.{2} (Android {1})",
)
BOTS = ("Mozilla/5.0 (compatible; Googlebot/2.{2}; +http://www.google.com/bot.html)", "UptimeKuma/1.{1}.{2}")
QUOTED = 'Radio \\"Station {1}\\" App/{0}.{2} (Linux; Android {1})'
ODD = "R\xe9cepteur \xab{1}\xbb/{0}.{2}\x01\xff"


def write(path: Path, lines: int, *, days: int = DAYS, seed: int = 3) -> int:
    """Writes the log and gives its bytes."""
    dice = np.random.default_rng(seed)
    agents = _agents()
    people = _people(dice, POPULATION * -(-lines // days), len(agents))
    left = lines
    going_on: list[tuple[int, bytes]] = []
    with path.open("wb") as log:
        for day in range(days):
            count = left // (days - day)
            left -= count
            start_s = END_S - (days - day) * DAY_S
            ended = sorted([*going_on, *_day(dice, start_s, count, people, agents)], key=itemgetter(0))
            border = bisect_left(ended, start_s + DAY_S, key=itemgetter(0)) if left else len(ended)
            log.write(b"".join(line for _, line in ended[:border]))
            going_on = ended[border:]
        return log.tell()


def _agents() -> list[str]:
    """Every agent of the population; many stand there twice, since not every kind has so many versions."""
    found = []
    for kinds, versions in ((BROWSERS, 40), (PLAYERS, 40), (BOTS, 5)):
        for kind in kinds:
            for version in range(versions):
                found.append(kind.format(90 + version, 9 + version % 8, 1 + version % 9))
    return found


def _people(dice: np.random.Generator, count: int, agents: int) -> tuple[list[str], list[int]]:
    """The addresses of the population, a third of them IPv6, and each one's agent."""
    hosts = dice.integers(0, 2 * 65536, count).tolist()
    networks = dice.integers(0, 1 << 48, count).tolist()
    is_new = (dice.random(count) < 1 / 3).tolist()
    addresses = [
        f"2001:db8:{network >> 32:x}:{network >> 16 & 0xFFFF:x}::{network & 0xFFFF:x}"
        if new
        else f"198.{18 + (host >> 16)}.{host >> 8 & 255}.{host & 255}"
        for host, network, new in zip(hosts, networks, is_new, strict=True)
    ]
    return addresses, dice.integers(0, agents, count).tolist()


def _day(
    dice: np.random.Generator, day_s: int, count: int, people: tuple[list[str], list[int]], agents: list[str]
) -> Iterator[tuple[int, bytes]]:
    """The lines of those who tune in on that day, each with its second."""
    addresses, agent_of = people
    first = dice.permutation(len(addresses))[:count]
    again = dice.random(count) < RECONNECTS
    again[0] = False
    hours = dice.choice(24, size=count, p=BY_HOUR / BY_HOUR.sum())
    started = day_s + hours * 3600 + dice.integers(0, 3600, count)
    lasts = np.minimum(np.exp(dice.normal(np.log(600), 1.5, count)).astype(np.int64), DAY_S)
    lasts = np.where(dice.random(count) < LONG_LISTENING, dice.integers(DAY_S, 2 * DAY_S, count), lasts)
    # Who reconnects is the one before in the table, half a minute after the end.
    origin = np.flatnonzero(~again)[np.cumsum(~again) - 1]
    who = first[origin]
    for _ in range(2):
        started[again] = (started + lasts)[np.flatnonzero(again) - 1] + dice.integers(0, 60, int(again.sum()))
    ended = started + lasts
    kind, mount, sent = dice.random(count), dice.random(count)[origin], dice.integers(2000, 40_000, count)
    stamps: dict[int, str] = {}
    for number, end_s in enumerate(ended.tolist()):
        minute = stamps.get(end_s // 60)
        if minute is None:
            minute = stamps[end_s // 60] = time.strftime("%d/%b/%Y:%H:%M", time.gmtime(end_s))
        person = int(who[number])
        line = _line(
            addresses[person],
            f"{minute}:{end_s % 60:02d} +0000",
            agents[agent_of[person]],
            person,
            float(kind[number]),
            "/live.mp3" if mount[number] < 0.7 else "/low.mp3",
            int(lasts[number]),
            int(sent[number]),
        )
        yield end_s, line


def _line(address: str, stamp: str, agent: str, person: int, kind: float, mount: str, seconds: int, rate: int) -> bytes:
    """The line of one socket; ``kind`` in [0, 1) says whether it is an odd one."""
    head = f"{address} - - [{stamp}] "
    if kind < NO_LISTENING:
        return _no_listening(head, agent, kind / NO_LISTENING, mount)
    status = 206 if kind > 0.99 else 200
    kind = 1 - kind
    if kind < ESCAPED_QUOTES:
        agent = QUOTED.format(90 + person % 50, person % 9, person % 7)
    elif (kind := kind - ESCAPED_QUOTES) < ODD_BYTES:
        agent = ODD.format(person % 50, person % 9, person % 7)
    elif (kind := kind - ODD_BYTES) < CUT:
        line = f'{head}"GET {mount} HTTP/1.1" 200 {rate * seconds} "-" "{agent * 60}'
        return line.encode("latin-1")[:CUT_CHARACTERS] + b"\n"
    referer = "https://radio.example/listen" if agent.startswith("Mozilla/5.0 (Windows") else "-"
    return f'{head}"GET {mount} HTTP/1.1" {status} {rate * seconds} "{referer}" "{agent}" {seconds}\n'.encode("latin-1")


def _no_listening(head: str, agent: str, kind: float, mount: str) -> bytes:
    if kind < 0.4:
        rest = '"GET /status-json.xsl HTTP/1.1" 200 5039 "-" "aircox/1.0" 0'
    elif kind < 0.6:
        rest = '"GET /admin/metadata HTTP/1.0" 200 364 "-" "Liquidsoap/2.1.3 (Unix; OCaml 4.13.1)" 0'
    elif kind < 0.7:
        rest = f'"GET {mount}.m3u HTTP/1.1" 200 96 "-" "{agent}" 0'
    elif kind < 0.8:
        rest = f'"HEAD {mount} HTTP/1.1" 400 129 "-" "{agent}" 0'
    elif kind < 0.9:
        rest = f'"GET /old.mp3 HTTP/1.1" 404 358 "-" "{agent}" 0'
    else:
        rest = f'"GET {mount} HTTP/1.1" 200 0 "-" "{agent}" 0'
    return f"{head}{rest}\n".encode("latin-1")


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5_000_000):,} bytes")
