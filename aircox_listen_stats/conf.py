"""The one settings dict, ``AIRCOX_LISTEN_STATS``: typed, validated, unknown keys refused by name.

``conf.get()`` gives the validated :class:`Settings`; it is computed once and
again whenever Django's settings change (tests).
"""

from __future__ import annotations

import datetime as dt
import difflib
import ipaddress
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from .errors import ConfigurationError
from .kernel.exclusions import ExclusionRules
from .kernel.types import RuleSet

NAME = "AIRCOX_LISTEN_STATS"

MOST_LETTER_DAYS = 90
"""Which letters were sent is remembered for longer than this, whatever else is deleted."""

LEAST_PLAYER_DAYS, MOST_PLAYER_DAYS = 2, 31
"""What web players told is kept for longer than a page may tell, and no longer than a listener's key may live."""

RULE_SETS: Mapping[str, RuleSet] = {
    "triton": RuleSet(name="triton", minimum_seconds=60, source="Triton Digital Webcast Metrics"),
    "nielsen5": RuleSet(
        name="nielsen5",
        minimum_seconds=300,
        quarter_hour_seconds=300,
        source="Nielsen: five minutes in a clock quarter-hour",
    ),
    "acpm30": RuleSet(name="acpm30", minimum_seconds=30, minimum_is_strict=True, source="ACPM: more than 30 seconds"),
    "openbroadcast": RuleSet(
        name="openbroadcast", minimum_seconds=30, minimum_is_strict=True, source="openbroadcast's session report"
    ),
    "all": RuleSet(name="all", minimum_seconds=0, source="every session"),
}
"""The rule-sets of the trade that come with the app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """One entry of STREAMS: what can be listened to, and who counts it."""

    source: str
    station: str | int | None = None  # slug or id; None: the default station
    mount: str = ""  # as the source names it; default: "/" + slug
    title: str = ""
    delay_seconds: float = 0.0
    fallbacks: Sequence[str] = ()  # mounts that Icecast moves this stream's listeners to
    relays: Sequence[str] = ()  # networks of this stream's relays: they listen for others
    beside: str = ""  # the stream that this one's source hears too: compared with it, never counted


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One entry of SOURCES: a backend (a short name or a dotted path) and its options."""

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """The LIVE entry."""

    public: bool = True  # may visitors see the count?
    stale_seconds: float = 60.0  # older than this, the count is unknown
    max_connections: int = 20_000  # sockets per process
    max_connections_per_address: int = 50
    allowed_origins: Sequence[str] = ()  # beside the site's own; "*" allows all
    publish_seconds: float = 1.0  # at most one message in that time


@dataclass(frozen=True, slots=True, kw_only=True)
class ExclusionSettings:
    """The EXCLUDE entry: networks and agent words that do not count."""

    staff_networks: Sequence[str] = ()
    relay_networks: Sequence[str] = ()
    monitor_agents: Sequence[str] = ()
    bots: bool = True  # recognise crawlers by their agent
    agent_lists: Sequence[str] = ()  # files of the OPAWG's user-agents-v2: bots…, apps….json
    cloud_lists: Sequence[str] = ()  # files of networks that the clouds publish, named by provider


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """The INGEST entry: what one batch of stream events, and one token, may bring."""

    max_bytes: int = 5_000_000  # of a body as it is sent, compressed or not
    max_inflated_bytes: int = 20_000_000
    max_events: int = 10_000
    requests_per_minute: int = 600  # of each token, in each process
    max_dead_letters: int = 100_000  # of each source; later ones are refused and not kept


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerSettings:
    """The PLAYER entry: what web players may tell of themselves."""

    enabled: bool = False
    allowed_origins: Sequence[str] = ()  # of pages beside the site's own; "*" allows all
    streams: Mapping[str, str] = field(default_factory=dict)  # address of a stream, as players have it -> its slug
    events_per_minute: int = 60  # of one page, in each process
    listener_events_per_minute: int = 240  # of one address and agent, in each process
    keep_events_days: int = 2  # what was told, each pause of it; as long as it is kept, plays can be derived again
    address_events_per_minute: int = 600  # of one address, in each process: 300 players of one school tell so much


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterSettings:
    """The LETTERS entry: e-mails to producers who asked for them."""

    site: str = ""  # where the pages are, as "https://radio.example"; without it there are no letters
    sender: str = ""  # default: Django's DEFAULT_FROM_EMAIL
    language: str = ""  # default: Django's LANGUAGE_CODE
    within_days: int = 7  # what ended longer ago when it settles gets no letter

    @property
    def enabled(self) -> bool:
        return bool(self.site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a station can set, with its default."""

    streams: Mapping[str, StreamSettings] = field(default_factory=dict)
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    live: LiveSettings = field(default_factory=LiveSettings)
    exclude: ExclusionSettings = field(default_factory=ExclusionSettings)
    player: PlayerSettings = field(default_factory=PlayerSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    letters: LetterSettings = field(default_factory=LetterSettings)
    monitor_hook: bool = False
    rule_set: str = "triton"
    rule_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    key_rotation: str = "day"  # day, week, month
    broadcast_day_starts: str = "04:00"
    time_zone: str | None = None  # default: Django's TIME_ZONE
    country_database: str | Path | None = None
    base_template: str = "aircox_listen_stats/standalone.html"
    trusted_proxies: Sequence[str] = ()
    keep_sessions_days: int = 400
    keep_connections_hours: int = 48
    keep_events_days: int = 7  # stream events; an event that ended earlier is refused
    keep_dead_letters_days: int = 30
    settle_after_hours: float | None = None  # default: what the station's sources need
    minimum_cell: int = 0  # counts from 1 to one below it are left empty in CSV and JSON; pages show all
    callback_tokens: Mapping[str, str] = field(default_factory=dict)  # source -> token in its callback URL
    journal_folder: str | Path | None = None  # default: in the account's home, by database
    journal_fsync: bool = False  # answer a callback once it would survive a power cut

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.time_zone or django_settings.TIME_ZONE)

    @property
    def broadcast_day_start(self) -> dt.time:
        return dt.time.fromisoformat(self.broadcast_day_starts)

    def rules(self, name: str | None = None) -> RuleSet:
        """The rule-set called ``name`` (default: the station's). Raises ConfigurationError."""
        name = name or self.rule_set
        known = {
            **RULE_SETS,
            **{
                key: _read(RuleSet, {"name": key, **value}, f"RULE_SETS[{key!r}]", upper=False)
                for key, value in self.rule_sets.items()
            },
        }
        if name not in known:
            raise ConfigurationError(f"Unknown rule-set {name!r}. Known: {', '.join(sorted(known))}.")
        return known[name]


_cached: Settings | None = None


def get() -> Settings:
    """The validated settings. Raises ConfigurationError with what to write instead."""
    global _cached
    if _cached is None:
        _cached = read(getattr(django_settings, NAME, {}))
    return _cached


@receiver(setting_changed)
def forget(*, setting: str, **kwargs: Any) -> None:
    """Drops the cached settings when a test overrides them."""
    global _cached
    if setting in (NAME, "TIME_ZONE"):
        _cached = None


def read(given: Mapping[str, Any]) -> Settings:
    """``given`` as typed settings. Raises ConfigurationError."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{NAME} is {type(given).__name__}; expected a dict.")
    given = dict(given)
    streams = _entries(given.pop("STREAMS", {}), "STREAMS")
    sources = _entries(given.pop("SOURCES", {}), "SOURCES")
    nested = {
        "live": _read(LiveSettings, given.pop("LIVE", {}), "LIVE", upper=False),
        "exclude": _read(ExclusionSettings, given.pop("EXCLUDE", {}), "EXCLUDE", upper=False),
        "player": _read(PlayerSettings, given.pop("PLAYER", {}), "PLAYER", upper=False),
        "letters": _read(LetterSettings, given.pop("LETTERS", {}), "LETTERS", upper=False),
        "ingest": _read(IngestSettings, given.pop("INGEST", {}), "INGEST", upper=False),
        "streams": {
            slug: _read(StreamSettings, entry, f"STREAMS[{slug!r}]", upper=False) for slug, entry in streams.items()
        },
        "sources": {name: _source(name, entry) for name, entry in sources.items()},
    }
    result = _read(Settings, given, NAME, upper=True, **nested)
    _cross_check(result)
    return result


def _entries(value: Any, label: str) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, Mapping) or not all(isinstance(entry, Mapping) for entry in value.values()):
        raise ConfigurationError(f"{NAME}[{label!r}] must be a dict of dicts, by name.")
    return value


def _source(name: str, entry: Mapping[str, Any]) -> SourceSettings:
    options = dict(entry)
    if "backend" not in options:
        raise ConfigurationError(f"{NAME}['SOURCES'][{name!r}] names no 'backend'. For Icecast: 'backend': 'icecast'.")
    return SourceSettings(backend=options.pop("backend"), options=options)


def _read(kind: type, given: Mapping[str, Any], label: str, *, upper: bool, **ready: Any) -> Any:
    """An instance of the dataclass ``kind`` from a dict, unknown keys and wrong types refused."""
    hints = get_type_hints(kind)
    names = {(f.name.upper() if upper else f.name): f for f in fields(kind)}
    values = dict(ready)
    for key, value in given.items():
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(names))
            raise ConfigurationError(f"Unknown setting {key!r} in {label}.{meant} Known: {known}.")
        name = names[key].name
        values[name] = _typed(value, hints[name], f"{label}[{key!r}]")
    for f in fields(kind):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigurationError(f"{label} lacks {f.name.upper() if upper else f.name!r}.")
    return kind(**values)


def _typed(value: Any, hint: Any, label: str) -> Any:
    allowed = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for one in allowed:
        origin = get_origin(one) or one
        if origin is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if origin is Sequence and isinstance(value, (list, tuple, set, frozenset)):
            return tuple(value)
        if isinstance(origin, type) and origin is not Sequence and isinstance(value, origin):
            if origin is int and isinstance(value, bool):
                continue
            return value
    names = " or ".join(
        getattr(get_origin(one) or one, "__name__", str(one)).replace("NoneType", "None") for one in allowed
    )
    if "TOKEN" in label:
        raise ConfigurationError(f"{label} is of type {type(value).__name__}; expected {names}.")
    raise ConfigurationError(f"{label} is {value!r} ({type(value).__name__}); expected {names}.")


def _cross_check(result: Settings) -> None:
    for slug, stream in result.streams.items():
        if stream.source not in result.sources:
            configured = ", ".join(sorted(result.sources)) or "none"
            raise ConfigurationError(f"Unknown source {stream.source!r} of stream {slug!r}. Configured: {configured}.")
        if stream.beside:
            _check_beside(result.streams, slug)
    if result.key_rotation not in ("day", "week", "month"):
        raise ConfigurationError(f"KEY_ROTATION is {result.key_rotation!r}. Allowed: day, week, month.")
    try:
        dt.time.fromisoformat(result.broadcast_day_starts)
    except ValueError:
        raise ConfigurationError(
            f"BROADCAST_DAY_STARTS is {result.broadcast_day_starts!r}; expected a time such as '04:00'."
        ) from None
    try:
        result.zone  # noqa: B018
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ConfigurationError(
            f"TIME_ZONE {result.time_zone!r} is not in the time zone database. Example: 'Europe/Brussels'."
        ) from None
    for name in IngestSettings.__slots__:
        if getattr(result.ingest, name) < 1:
            raise ConfigurationError(f"INGEST[{name!r}] is {getattr(result.ingest, name)}; expected 1 or more.")
    _check_networks(result)
    _check_player(result)
    _check_letters(result.letters)
    result.rules()


def _check_beside(streams: Mapping[str, StreamSettings], slug: str) -> None:
    stream, other = streams[slug], streams.get(streams[slug].beside)
    said = f"STREAMS[{slug!r}]['beside'] is {stream.beside!r}"
    counted = ", ".join(sorted(name for name, one in streams.items() if not one.beside)) or "none"
    if other is None or other.beside:
        raise ConfigurationError(f"{said}; expected a stream that counts. Those that do: {counted}.")
    if other.source == stream.source:
        raise ConfigurationError(
            f"{said}, which source {stream.source!r} counts already: it would be compared with itself. "
            "Give it another 'source'."
        )
    if stream.station is not None:
        raise ConfigurationError(
            f"{said}, and its 'station' is {stream.station!r}: what is compared counts for no station. "
            "Leave 'station' out."
        )


def _check_player(result: Settings) -> None:
    is_source = any(one.backend == "player_events" for one in result.sources.values())
    if is_source and not result.player.enabled:
        raise ConfigurationError(
            "A source's backend is 'player_events', but web players are not heard. Set PLAYER to {'enabled': True}."
        )
    for address, slug in result.player.streams.items():
        if slug not in result.streams:
            configured = ", ".join(sorted(result.streams)) or "none"
            raise ConfigurationError(
                f"PLAYER['streams'][{address!r}] is {slug!r}, which is no stream. Configured: {configured}."
            )
    for name in ("events_per_minute", "listener_events_per_minute", "address_events_per_minute"):
        if getattr(result.player, name) < 1:
            raise ConfigurationError(f"PLAYER[{name!r}] is {getattr(result.player, name)}; expected 1 or more.")

    if not LEAST_PLAYER_DAYS <= result.player.keep_events_days <= MOST_PLAYER_DAYS:
        raise ConfigurationError(
            f"PLAYER['keep_events_days'] is {result.player.keep_events_days}; expected {LEAST_PLAYER_DAYS} to "
            f"{MOST_PLAYER_DAYS} days: a page may tell for one, and no listener's key lives longer than a month."
        )


def _check_letters(letters: LetterSettings) -> None:
    site = urlsplit(letters.site)
    if letters.site and (site.scheme not in ("https", "http") or not site.hostname or site.query or site.fragment):
        raise ConfigurationError(
            f"LETTERS['site'] is {letters.site!r}; expected where people reach the site, such as 'https://radio.example'."
        )
    if not 1 <= letters.within_days <= MOST_LETTER_DAYS:
        raise ConfigurationError(
            f"LETTERS['within_days'] is {letters.within_days}; expected 1 to {MOST_LETTER_DAYS} days."
        )


def _check_networks(result: Settings) -> None:
    """Refuses here what would else fail each time that a listener is heard."""
    try:
        ExclusionRules.compiled(
            staff_networks=result.exclude.staff_networks,
            relay_networks=result.exclude.relay_networks,
            monitor_agents=result.exclude.monitor_agents,
        )
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"EXCLUDE: {error}") from None
    for slug, stream in result.streams.items():
        try:
            ExclusionRules.compiled(relay_networks=stream.relays)
        except (ValueError, AttributeError) as error:
            raise ConfigurationError(f"STREAMS[{slug!r}]['relays']: {error}") from None
    for network in result.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigurationError(
                f"TRUSTED_PROXIES: {network!r} is no network. Write an address or a network such as "
                "'192.0.2.0/24' or '2001:db8::/32'."
            ) from None
