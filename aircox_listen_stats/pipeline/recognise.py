"""Where an address ends: a key, a country, the name of an app, and why it may not count."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import re2
import ua_parser
from crawlerdetect.providers import crawlers, exclusions

from .. import conf
from ..kernel import identity
from ..kernel.addresses import Addresses
from ..kernel.arrays import Ints
from ..kernel.exclusions import RULE_LENGTH, ExclusionRules
from ..kernel.lists import AgentList, CloudNetworks, networks_of, parse_agents
from ..kernel.types import Address, Exclusion, ListenerMark
from . import countries
from .machines import machine
from .secrets import Secrets

log = logging.getLogger(__name__)

REMEMBERED_MARKS = 20_000
"""Marks kept in memory, by key: reconnecting players are recognised once (about 10 MB)."""

REMEMBERED_AGENTS = 4096
"""Agents whose app is known: a station meets some thousand, a log the same ones again and again."""

LONGEST_AGENT = 512
"""Characters of an agent that are looked at. Icecast's log cuts its line at 1023."""

PLAYERS: tuple[tuple[str, str], ...] = (
    # What an agent holds (lower case), what the player is called. Of several the first here wins:
    # apps before the players that they pose as and the libraries that they are built on.
    ("tunein", "TuneIn"),
    ("radiodroid", "RadioDroid"),
    ("transistor", "Transistor"),
    ("radio garden", "Radio Garden"),
    ("radiogarden", "Radio Garden"),
    ("radioplayer", "Radioplayer"),
    ("mytuner", "myTuner"),
    ("replaio", "Replaio"),
    ("radio.net", "radio.net"),
    ("radio.de", "radio.net"),
    ("audials", "Audials"),
    ("streamripper", "streamripper"),
    ("sonos", "Sonos"),
    ("bose", "Bose"),
    ("alexa", "Alexa"),
    ("echo/", "Alexa"),
    ("google-speech", "Google Home"),
    ("crkey", "Chromecast"),
    ("roku", "Roku"),
    ("frontier", "Frontier"),
    ("squeezebox", "Squeezebox"),
    ("logitech media server", "Squeezebox"),
    ("lyrion", "Squeezebox"),
    ("volumio", "Volumio"),
    ("moode", "moOde"),
    ("kodi", "Kodi"),
    ("xbmc", "Kodi"),
    ("foobar2000", "foobar2000"),
    ("winamp", "Winamp"),
    ("aimp", "AIMP"),
    ("musicbee", "MusicBee"),
    ("clementine", "Clementine"),
    ("strawberry", "Strawberry"),
    ("rhythmbox", "Rhythmbox"),
    ("audacious", "Audacious"),
    ("amarok", "Amarok"),
    ("xmms", "XMMS"),
    ("qmmp", "Qmmp"),
    ("music player daemon", "MPD"),
    ("mplayer", "MPlayer"),
    ("mpv", "mpv"),
    ("mpg123", "mpg123"),
    ("vlc", "VLC"),
    ("itunes", "iTunes"),
    ("nsplayer", "Windows Media Player"),
    ("windows-media-player", "Windows Media Player"),
    ("wmfsdk", "Windows Media Player"),
    ("bass/", "BASS"),
    ("applecoremedia", "AppleCoreMedia"),
    ("stagefright", "Android"),
    ("exoplayer", "ExoPlayer"),
    ("media3", "ExoPlayer"),
    ("gstreamer", "GStreamer"),
    ("liquidsoap", "Liquidsoap"),
    ("butt", "butt"),
    ("lavf", "FFmpeg"),
    ("ffmpeg", "FFmpeg"),
    ("okhttp", "okhttp"),
    ("dalvik", "Android"),
    ("cfnetwork", "Apple app"),
    ("curl", "curl"),
    ("wget", "Wget"),
)
"""Radio players. crawlerdetect takes several of them (VLC, FFmpeg, curl, okhttp) for
crawlers, since a web site does: on a stream they are listeners, so this table comes first."""

APP_LENGTH = 48
"""Characters of an app's name that are stored (``Session.app``)."""

APPS = ("apps", "libraries", "browsers")
BOTS = ("bots",)
"""How the OPAWG's files begin, by what their entries are."""

_CHOICE = re.compile(r"\((?!\?)([^()?\[\]{}\\*+.^$]+)\)")
"""A group of plain words in a pattern."""

CRAWLERS_MEMORY = 64 << 20
"""Bytes that re2 may take for the crawlers' expression; it needs 5 MB to begin with."""


def mark(address: Address, secrets: Secrets, stream: str = "") -> ListenerMark:
    """What may be kept of ``address``. The address itself is not remembered.

    ``stream`` is the slug of the stream where it was heard: who is a relay of one may listen to another.
    """
    told = identity.name_of(address)
    listener = identity.key_under(secrets.current, told)
    settings = conf.get()
    since = tuple(one.started_ms for one in secrets.periods)  # where keys live longer, a week ends before its key
    name = (listener, stream if _has_relays(stream, settings) else "", since)
    known = _marks.get(name, settings)
    if known is None:
        known = _mark(address, told, secrets, name[1], listener)
        _marks.put(name, known)
    return known


def _has_relays(stream: str, settings: conf.Settings) -> bool:
    entry = settings.streams.get(stream)
    return entry is not None and bool(entry.relays)


def forget() -> None:
    """Drops everything remembered, for instance because the country file was replaced."""
    _marks.clear()
    countries.forget()
    _rules.cache_clear()
    agent_list.cache_clear()
    cloud_networks.cache_clear()
    app_name.cache_clear()
    is_crawler.cache_clear()
    bot_rule.cache_clear()


@functools.lru_cache(maxsize=REMEMBERED_AGENTS)
def app_name(agent: str) -> str:
    """The player's or the browser's name, '' where nothing is recognised."""
    agent = agent[:LONGEST_AGENT]
    player = _player(agent)
    if player:
        return player
    listed = _listed(APPS, agent)
    if listed:
        return listed[:APP_LENGTH]
    if not agent.startswith(("Mozilla/", "Opera/")):
        return ""  # every browser's agent begins so; the rest is no family that we could trust
    browser = ua_parser.parse_user_agent(agent)
    return browser.family if browser and browser.family in _families() else ""


@functools.lru_cache(maxsize=64)
def _player(agent: str) -> str:
    """The radio player of PLAYERS that stands first there of those that the agent names; '' where it names none."""
    agent = agent.lower()
    return next((name for word, name in PLAYERS if word in agent and _begins(word, agent)), "")


def _begins(word: str, agent: str) -> bool:
    """Does the word stand in the agent without a letter before it?"""
    place = agent.find(word)
    while place > 0 and "a" <= agent[place - 1] <= "z":
        place = agent.find(word, place + 1)
    return place >= 0


@functools.cache
def _families() -> frozenset[str]:
    """The names that ua-parser's list spells out. Its other patterns give back pieces of the agent."""
    found: set[str] = set()
    for matcher in ua_parser.load_lazy_builtins()[0]:
        choice = _CHOICE.search(matcher.regex) if matcher.family == "$1" else None
        if choice is not None:
            found.update(choice[1].split("|"))
        elif "$" not in matcher.family:
            found.add(matcher.family)
    return frozenset(name for name in found if 0 < len(name) <= APP_LENGTH)


def _listed(kinds: tuple[str, ...], agent: str) -> str:
    """The name that the station's lists of these kinds have for the agent; '' where they have none."""
    for path in conf.get().exclude.agent_lists:
        if Path(path).name.startswith(kinds):
            name = agent_list(str(path)).name(agent)
            if name:
                return name
    return ""


@functools.lru_cache(maxsize=16)
def agent_list(path: str) -> AgentList:
    """The list in a file of AGENT_LISTS; an empty one (and a line in the log) where it cannot be read."""
    try:
        return parse_agents(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        log.warning("A file of EXCLUDE['agent_lists'] cannot be used: %s.", _told(error))
        return AgentList()


@functools.lru_cache(maxsize=4)
def cloud_networks(paths: tuple[str, ...]) -> CloudNetworks:
    """The clouds' networks in these files; without those (and with a line in the log) that cannot be read."""
    found = []
    for path in paths:
        try:
            found += networks_of(Path(path).read_text(encoding="utf-8-sig"), Path(path).stem)
        except (OSError, ValueError) as error:
            log.warning("A file of EXCLUDE['cloud_lists'] cannot be used: %s.", _told(error))
    return CloudNetworks(found)


def _told(error: Exception) -> str:
    """What is wrong, without the path."""
    return type(error).__name__ if isinstance(error, OSError) else str(error)


@functools.lru_cache(maxsize=REMEMBERED_AGENTS)
def bot_rule(agent: str) -> str:
    """The rule by which the agent is a crawler's or a library's; '' where it is a player's."""
    agent = agent[:LONGEST_AGENT]
    if is_crawler(agent):
        return "crawlerdetect"
    if not agent or _player(agent):
        return ""
    listed = _listed(BOTS, agent)
    return f"list {listed}"[:RULE_LENGTH] if listed else ""


@functools.lru_cache(maxsize=REMEMBERED_AGENTS)
def is_crawler(agent: str) -> bool:
    """Does a crawler or a library fetch this, not a player?"""
    agent = agent[:LONGEST_AGENT]
    if not agent or _player(agent):
        return False
    never, fast, others = _crawlers()
    agent = never.sub("", agent.strip())
    return bool(agent) and (fast.search(agent) is not None or any(one.search(agent) for one in others))


@functools.cache
def _crawlers() -> tuple[Any, Any, list[re.Pattern[str]]]:
    """crawlerdetect's lists, compiled: what is cut out beforehand, the crawlers, and those that re2 cannot try.

    Python's own expressions try 1,500 alternatives one after the other, for half
    a millisecond; re2 tries them at once. What re2 has no words for (a look-ahead) is Python's.
    """
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = CRAWLERS_MEMORY
    one_by_one, at_once = [], []
    for pattern in crawlers.data:
        try:
            re2.compile(pattern, options)
            at_once.append(pattern)
        except re2.error:
            one_by_one.append(re.compile(pattern, re.IGNORECASE))
    never = re2.compile("|".join(f"(?:{one})" for one in exclusions.data), options)
    return never, re2.compile("|".join(f"(?:{one})" for one in at_once), options), one_by_one


def _mark(address: Address, told: bytes, secrets: Secrets, stream: str, listener: int) -> ListenerMark:
    country, *by_ip = of_ip(address.ip, stream)
    app, *by_agent = of_agent(address.agent)
    exclusion, rule = excluded(tuple(by_ip), tuple(by_agent))
    return ListenerMark(
        listener=listener,
        previous=identity.key_under(secrets.previous, told) if secrets.previous else None,
        country=country,
        app=app,
        exclusion=exclusion,
        rule=rule,
        periods=tuple((one.kind, one.started_ms, identity.key_under(one.value, told)) for one in secrets.periods),
    )


def of_ip(ip: str, stream: str = "") -> tuple[str, str, str]:
    """What the address alone tells: country, why it does not count, by which rule; '' each where nothing is known."""
    return countries.country_of(ip), *_excluded_ip(identity.normalise_ip(ip), rules(stream), _clouds())


def of_addresses(
    addresses: Addresses, ips: Sequence[str], known: countries.Countries, stream: str = ""
) -> tuple[Ints, list[tuple[str, str, str]]]:
    """:func:`of_ip` of each of some addresses and their spellings: the different answers, and which one is whose."""
    which = known.of(addresses)
    own, clouds = rules(stream), _clouds()
    if not own.networks and clouds is None:
        return which, [(name, "", "") for name in known.names]
    numbers: dict[tuple[str, str, str], int] = {}
    found = []
    for ip, country in zip(ips, which.tolist(), strict=True):
        told = (known.names[country], *_excluded_ip(identity.normalise_ip(ip), own, clouds))
        found.append(numbers.setdefault(told, len(numbers)))
    return np.array(found, dtype=np.int64), list(numbers)


def _excluded_ip(ip: str, own: ExclusionRules, clouds: CloudNetworks | None) -> tuple[str, str]:
    """Why a normalised address does not count, and by which rule."""
    exclusion, rule = own.label_ip(ip)
    if not exclusion and clouds is not None and (provider := clouds.provider(ip)):
        exclusion, rule = Exclusion.CLOUD, f"cloud {provider}"[:RULE_LENGTH]
    return str(exclusion), rule


def _clouds() -> CloudNetworks | None:
    lists = conf.get().exclude.cloud_lists
    return cloud_networks(tuple(map(str, lists))) if lists else None


def of_agent(agent: str) -> tuple[str, str, str]:
    """What the agent alone tells: app, why it does not count, by which rule; '' each where nothing is known."""
    exclusion, rule = rules().label(Address(ip="", agent=agent))
    if not exclusion and conf.get().exclude.bots:
        exclusion, rule = machine(agent)
        if not exclusion and (by := bot_rule(agent)):
            exclusion, rule = Exclusion.BOT, by
    return app_name(agent), str(exclusion), rule


def excluded(by_ip: tuple[str, ...], by_agent: tuple[str, ...]) -> tuple[str, ...]:
    """The reason and the rule that hold: the address goes before the agent, but for a cloud's, which says least."""
    if by_ip[0] == Exclusion.CLOUD and by_agent[0]:
        return by_agent
    return by_ip if by_ip[0] else by_agent


def rules(stream: str = "") -> ExclusionRules:
    """The station's networks and agent words, with those of the stream's relays, compiled once."""
    settings = conf.get()
    exclude, entry = settings.exclude, settings.streams.get(stream)
    own = tuple(entry.relays) if entry else ()
    return _rules(tuple(exclude.staff_networks), tuple(exclude.relay_networks), tuple(exclude.monitor_agents), own)


@functools.lru_cache(maxsize=64)
def _rules(
    staff: tuple[str, ...], relays: tuple[str, ...], agents: tuple[str, ...], own: tuple[str, ...]
) -> ExclusionRules:
    return ExclusionRules.compiled(
        staff_networks=staff, relay_networks=relays, monitor_agents=agents, stream_relays=own
    )


_Name = tuple[int, str, tuple[int, ...]]
"""Key, stream where it has relays, and the starts of the periods under whose secrets there are keys too."""


class _Marks:
    """The last marks that were made, by key, and by stream where it has relays: a key tells no address."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Name, ListenerMark] = OrderedDict()
        self._lock = threading.Lock()
        self._settings: conf.Settings | None = None

    def get(self, listener: _Name, settings: conf.Settings) -> ListenerMark | None:
        """The mark of ``listener``, unless it was made under other settings."""
        with self._lock:
            if settings is not self._settings:
                self._kept.clear()
                self._settings = settings
            found = self._kept.get(listener)
            if found is not None:
                self._kept.move_to_end(listener)
            return found

    def put(self, listener: _Name, made: ListenerMark) -> None:
        with self._lock:
            self._kept[listener] = made
            while len(self._kept) > REMEMBERED_MARKS:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


_marks = _Marks()
