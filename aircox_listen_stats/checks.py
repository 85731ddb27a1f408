"""System checks of the configuration. Ids and hints are public: docs/checks.md.

``manage.py check`` asks no network; ``check --deploy`` asks every source once,
and ``check --database default`` looks for the stations in aircox's tables.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import Error as DatabaseError

from . import conf
from .errors import ListenStatsError, SourceUnavailable

TAG = "aircox_listen_stats"
IN_PROCESS_LAYER = "channels.layers.InMemoryChannelLayer"
REDIS_LAYERS = "channels_redis."
CALLBACKS_FIRST = "aircox_listen_stats.web.callbacks.CallbacksFirst"
DJANGO_SENDER = "webmaster@localhost"
"""Django's own DEFAULT_FROM_EMAIL."""
REDIS_WITH_TIMEOUT = 8
"""From this major version on redis-py gives up after 5 s of silence, which is a quiet station."""


def _id(name: str) -> str:
    return f"listen_stats.{name}"


def _settings() -> conf.Settings | None:
    """The settings, None where they are invalid: E001 tells that, and all others keep silent."""
    try:
        return conf.get()
    except ListenStatsError:
        return None


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001: invalid settings; E002: naive datetimes; E005: two streams on one mount; W008, W009, W012."""
    if not django_settings.USE_TZ:
        return [
            Error(
                "USE_TZ is False: instants without a zone cannot be placed.",
                hint="Set USE_TZ = True. aircox needs it too.",
                id=_id("E002"),
            )
        ]
    try:
        settings = conf.get()
    except ListenStatsError as error:
        return [Error(str(error), hint="docs/settings.md has every key.", id=_id("E001"))]
    duplicates = list(_duplicate_mounts(settings))
    if duplicates:
        return duplicates
    return [*_build_sources(settings), *_live(settings), *_country(settings), *_lists(settings)]


@register(TAG)
def check_aircox(**kwargs: Any) -> list[CheckMessage]:
    """W003: no aircox, so that nothing is known of what was on air."""
    if apps.is_installed("aircox") or any(one.label == "aircox" for one in apps.get_app_configs()):
        return []
    return [
        Warning(
            "aircox is not installed: listeners are counted, but nothing is known of what was on air.",
            hint="Put 'aircox.apps.AircoxConfig' and 'aircox_streamer.apps.AircoxStreamerConfig' into INSTALLED_APPS.",
            id=_id("W003"),
        )
    ]


@register(TAG)
def check_serving(**kwargs: Any) -> list[CheckMessage]:
    """W001, W002, W004, W005: what the live count needs of ASGI, channel layer and database."""
    if _settings() is None:
        return []
    return [*_asgi(), *_channel_layer(), *_connection_age()]


@register(TAG)
def check_callbacks(**kwargs: Any) -> list[CheckMessage]:
    """W010: callbacks are answered behind another middleware, which may reject a listener in our place."""
    settings = _settings()
    first = next(iter(django_settings.MIDDLEWARE or ()), None)
    if settings is None or not settings.callback_tokens or first == CALLBACKS_FIRST:
        return []
    return [
        Warning(
            "Icecast's callbacks pass other middleware first: where one of them fails, waits or redirects, "
            "Icecast turns the listener away.",
            hint=f"Put {CALLBACKS_FIRST!r} first in MIDDLEWARE (docs/sources/icecast.md).",
            id=_id("W010"),
        )
    ]


@register(TAG)
def check_callback_journal(**kwargs: Any) -> list[CheckMessage]:
    """W011: no journal of callbacks can be kept, so that a killed web process loses those that it answered."""
    from .pipeline import journal

    settings = _settings()
    if settings is None or not settings.callback_tokens:
        return []
    trouble = journal.trouble(journal.folder(settings))
    if not trouble:
        return []
    return [
        Warning(
            f"The folder of the callbacks' journals cannot be used: {trouble}. Callbacks then wait in memory "
            "alone, and a process that is killed loses them.",
            hint="Set JOURNAL_FOLDER to a folder that is the web processes' own (docs/sources/icecast.md). "
            "Run this check as their account.",
            id=_id("W011"),
        )
    ]


@register(TAG)
def check_letters(**kwargs: Any) -> list[CheckMessage]:
    """W013: letters that a mail server will refuse or nobody can answer to; W014: letters without a picture."""
    from .reports import pictures

    settings = _settings()
    if settings is None or not settings.letters.enabled:
        return []
    found: list[CheckMessage] = []
    if not settings.letters.sender and django_settings.DEFAULT_FROM_EMAIL == DJANGO_SENDER:
        found.append(
            Warning(
                f"Letters to producers would come from {DJANGO_SENDER}, which mail servers refuse.",
                hint="Set LETTERS['sender'], or DEFAULT_FROM_EMAIL (docs/letter.md).",
                id=_id("W013"),
            )
        )
    if not pictures.can_draw():
        found.append(
            Warning(
                "Pillow is not installed: letters to producers have no picture of the audience.",
                hint="pip install 'aircox-listen-stats[letters]'. aircox itself brings Pillow.",
                id=_id("W014"),
            )
        )
    return found


@register(TAG)
def check_time_zone(**kwargs: Any) -> list[CheckMessage]:
    """W007: the station's zone has no daylight saving, most likely nobody set it."""
    settings = _settings()
    if settings is None or not settings.sources:
        return []
    name = settings.time_zone or django_settings.TIME_ZONE
    if name in ("UTC", "Etc/UTC", "GMT") or name.startswith("Etc/GMT"):
        return [
            Warning(
                f"The station's time zone is {name!r}: days, hours and broadcast days are cut in it.",
                hint="Set TIME_ZONE in AIRCOX_LISTEN_STATS to where the station is, e.g. 'Europe/Brussels'. "
                "If it really is UTC, silence this check.",
                id=_id("W007"),
            )
        ]
    return []


@register(TAG, Tags.database)
def check_stations(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """E006: a stream of a station that aircox does not have; E007: a mount that no station owns."""
    settings = _settings()
    if not databases or settings is None or not apps.is_installed("aircox"):
        return []
    from .onair import aircox

    try:
        log = aircox.log()
        slugs = [one.slug for one in log.stations()]
        default = log.default_station()
        unknown = {
            slug: one.station
            for slug, one in settings.streams.items()
            if one.station is not None and log.station(one.station) is None
        }
    except (DatabaseError, ListenStatsError):
        return []  # before the first migrate
    if not slugs:
        return []  # a new installation; the doctor tells it
    found: list[CheckMessage] = [
        Error(
            f"Stream {slug!r} belongs to station {station!r}, which aircox does not have.",
            hint=f"Known stations: {', '.join(slugs)}.",
            id=_id("E006"),
        )
        for slug, station in unknown.items()
    ]
    if default is None:
        found += [
            Error(
                f"No station owns stream {slug!r}: it names none, and aircox has no default station.",
                hint=f"Give the stream a 'station'. Known: {', '.join(slugs)}.",
                id=_id("E007"),
            )
            for slug, one in settings.streams.items()
            if one.station is None and not one.beside
        ]
    return found


@register(TAG, deploy=True)
def check_reachable(**kwargs: Any) -> list[CheckMessage]:
    """W006: a source that does not answer. Asks the network, hence only with --deploy."""
    from .sources import registry
    from .sources.base import PullSource

    settings = _settings()
    if settings is None:
        return []
    found: list[CheckMessage] = []
    for name in settings.sources:
        try:
            source = registry.source(settings, name)
        except ListenStatsError:
            continue
        if not isinstance(source, PullSource):
            continue
        try:
            source.pull({}, now_ms=_now_ms())
        except SourceUnavailable as error:
            streams = ", ".join(sorted(set(source.streams.values()))) or "no stream"
            found.append(
                Warning(
                    f"{error} Until it answers, nothing is known of {streams}.",
                    hint="./manage.py listen_stats_doctor asks again and tells more.",
                    id=_id("W006"),
                )
            )
        finally:
            source.close()
    return found


def _now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000


def _duplicate_mounts(settings: conf.Settings) -> Iterator[CheckMessage]:
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for slug, stream in settings.streams.items():
        owners[stream.source, stream.mount or f"/{slug}"].append(slug)
    for (source, mount), slugs in owners.items():
        if len(slugs) > 1:
            yield Error(
                f"Streams {', '.join(slugs)} are all mount {mount!r} of source {source!r}. One stream is counted once.",
                hint="Give each stream its own 'mount', or remove the others.",
                id=_id("E005"),
            )


def _build_sources(settings: conf.Settings) -> Iterator[CheckMessage]:
    from .sources import registry

    for name in settings.sources:
        try:
            registry.source(settings, name).close()
        except (ListenStatsError, ValueError) as error:
            yield Error(str(error), hint="docs/sources/ has each backend's options.", id=_id("E001"))


def _lists(settings: conf.Settings) -> Iterator[CheckMessage]:
    from .pipeline import lists

    for trouble in lists.troubles(settings):
        yield Warning(
            trouble,
            hint="Who would match is counted meanwhile. listen_stats_lists fetches the lists (docs/lists.md).",
            id=_id("W012"),
        )


def _live(settings: conf.Settings) -> Iterator[CheckMessage]:
    for name, source in settings.sources.items():
        poll_seconds = source.options.get("poll_seconds", 0)
        if isinstance(poll_seconds, int | float) and poll_seconds * 2 > settings.live.stale_seconds:
            yield Warning(
                f"Source {name!r} is polled every {poll_seconds:g} s, and after {settings.live.stale_seconds:g} s "
                "without a poll the live count is unknown: one missed poll makes it so.",
                hint="Set LIVE['stale_seconds'] to three times 'poll_seconds', or poll more often.",
                id=_id("W008"),
            )


def _country(settings: conf.Settings) -> Iterator[CheckMessage]:
    from .pipeline import countries

    if settings.country_database is not None and countries.reader(str(settings.country_database)) is None:
        yield Warning(
            "COUNTRY_DATABASE cannot be read as an MMDB file: countries stay empty.",
            hint="Check that the file exists, that this account may read it, and that it is an .mmdb file.",
            id=_id("W009"),
        )


def _asgi() -> Iterator[CheckMessage]:
    if not getattr(django_settings, "ASGI_APPLICATION", None):
        yield Warning(
            "ASGI_APPLICATION is not set: there are no websockets, and the live count is polled as JSON.",
            hint="aircox has no ASGI entry. Set it to 'aircox_listen_stats.asgi.application'. "
            "If polling is what you want, silence this check.",
            id=_id("W001"),
        )


def _channel_layer() -> Iterator[CheckMessage]:
    layer = getattr(django_settings, "CHANNEL_LAYERS", {}).get("default", {})
    backend = layer.get("BACKEND", "")
    if not django_settings.DEBUG and backend in ("", IN_PROCESS_LAYER):
        yield Warning(
            "There is no channel layer between processes: the collector cannot reach the web processes, "
            "which then ask the database once a second.",
            hint="Set CHANNEL_LAYERS to channels_redis.pubsub.RedisPubSubChannelLayer (docs/live.md).",
            id=_id("W002"),
        )
    if backend.startswith(REDIS_LAYERS) and _redis_gives_up() and not _hosts_have_timeout(layer):
        yield Warning(
            "redis-py 8 closes a connection that is silent for 5 s, and a channel layer is silent for longer.",
            hint="In CHANNEL_LAYERS write each host as {'address': 'redis://…', 'socket_timeout': None}.",
            id=_id("W005"),
        )


def _redis_gives_up() -> bool:
    if importlib.util.find_spec("redis") is None:
        return False
    return int(metadata.version("redis").partition(".")[0]) >= REDIS_WITH_TIMEOUT


def _hosts_have_timeout(layer: dict[str, Any]) -> bool:
    hosts = layer.get("CONFIG", {}).get("hosts", ["redis://localhost:6379"])
    return all(isinstance(host, dict) and "socket_timeout" in host for host in hosts)


def _connection_age() -> Iterator[CheckMessage]:
    database = django_settings.DATABASES.get("default", {})
    if not getattr(django_settings, "ASGI_APPLICATION", None) or "postgresql" not in database.get("ENGINE", ""):
        return
    if database.get("CONN_MAX_AGE", 0) is None:
        yield Warning(
            "CONN_MAX_AGE is None under ASGI: threads keep connections for ever, until PostgreSQL has none left.",
            hint="Set CONN_MAX_AGE = 0 and, from Django 5.1 on, OPTIONS = {'pool': True}.",
            id=_id("W004"),
        )
