"""From the settings to the sources: short names, dotted paths, who hears which stream."""

from __future__ import annotations

import difflib
from importlib import import_module

from ..conf import Settings
from ..errors import ConfigurationError
from .base import Source

__all__ = ["BACKENDS", "backend", "build", "mounts"]

BACKENDS = {
    "icecast": "aircox_listen_stats.sources.icecast.IcecastSource",
    "urlauth": "aircox_listen_stats.sources.urlauth.UrlAuthSource",
    "accesslog": "aircox_listen_stats.sources.accesslog.AccessLogSource",
    "hls": "aircox_listen_stats.sources.hls.HlsSource",
    "icecast_totals": "aircox_listen_stats.sources.icecast_totals.IcecastTotalsSource",
    "azuracast": "aircox_listen_stats.sources.azuracast.AzuraCastSource",
    "shoutcast": "aircox_listen_stats.sources.shoutcast.ShoutcastSource",
    "player_events": "aircox_listen_stats.sources.player.PlayerEventsSource",
    "stream_events": "aircox_listen_stats.sources.stream_events.StreamEventsSource",
}
"""The short names; any other backend is a dotted path."""


def build(settings: Settings) -> dict[str, Source]:
    """Every configured source, by name. Raises ConfigurationError."""
    return {name: source(settings, name) for name in settings.sources}


def source(settings: Settings, name: str) -> Source:
    """The configured source ``name``. Raises ConfigurationError."""
    if name not in settings.sources:
        raise ConfigurationError(
            f"Unknown source {name!r}. Configured: {', '.join(sorted(settings.sources)) or 'none'}."
        )
    entry = settings.sources[name]
    return backend(entry.backend)(
        name,
        mounts(settings, name),
        entry.options,
        fallbacks={slug: stream.fallbacks for slug, stream in settings.streams.items() if stream.source == name},
        trusted_proxies=settings.trusted_proxies,
    )


def mounts(settings: Settings, name: str) -> dict[str, str]:
    """mount -> slug of the streams that the source ``name`` counts. Raises ConfigurationError."""
    found: dict[str, str] = {}
    for slug, stream in settings.streams.items():
        if stream.source != name:
            continue
        mount = stream.mount or f"/{slug}"
        if mount in found:
            raise ConfigurationError(
                f"Streams {found[mount]!r} and {slug!r} both name the mount {mount!r} of source {name!r}. "
                "One stream is counted once."
            )
        found[mount] = slug
    return found


def backend(name: str) -> type[Source]:
    """The class behind a short name or a dotted path. Raises ConfigurationError."""
    path = BACKENDS.get(name, name)
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        raise ConfigurationError(
            f"Unknown backend {name!r}.{f' Did you mean {near[0]!r}?' if near else ''} "
            f"Known: {', '.join(sorted(BACKENDS))}, or a dotted path."
        )
    try:
        kind = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Backend {name!r} cannot be imported: {error}.") from error
    if not (isinstance(kind, type) and issubclass(kind, Source)):
        raise ConfigurationError(f"Backend {name!r} is no source: it must derive from PullSource or PushSource.")
    return kind
