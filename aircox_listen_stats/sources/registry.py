"""From the settings to the sources: short names, dotted paths, who hears which stream."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from importlib import import_module
from types import ModuleType

from .. import sources
from ..conf import Settings
from ..errors import ConfigurationError
from .base import Source

__all__ = ["backend", "build", "mounts", "short_names", "source"]


def short_names() -> tuple[str, ...]:
    """What a ``backend`` may be called in short: the modules of this folder that hold a source."""
    return tuple(sorted(name for name in _modules() if _source_in(import_module(f"{sources.__name__}.{name}"))))


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
    if name in _modules():
        kind = _source_in(import_module(f"{sources.__name__}.{name}"))
        if kind is not None:
            return kind
    module_name, _, class_name = name.rpartition(".")
    if not module_name:
        known = short_names()
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigurationError(
            f"Unknown backend {name!r}.{f' Did you mean {near[0]!r}?' if near else ''} "
            f"Known: {', '.join(known)}, or a dotted path."
        )
    try:
        kind = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Backend {name!r} cannot be imported: {error}.") from error
    if not (isinstance(kind, type) and issubclass(kind, Source)):
        raise ConfigurationError(f"Backend {name!r} is no source: it must derive from PullSource or PushSource.")
    return kind


def _modules() -> frozenset[str]:
    return frozenset(one.name for one in pkgutil.iter_modules(sources.__path__))


def _source_in(module: ModuleType) -> type[Source] | None:
    """The one class of the module that can be a source, and is no base of others; None where there is none."""
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Source) and one.__module__ == module.__name__ and _is_whole(one)
    ]
    return found[0] if len(found) == 1 else None


def _is_whole(kind: type[Source]) -> bool:
    """Does it say how it hears?"""
    hears = getattr(kind, "pull", None), getattr(kind, "receive", None)
    lacks = inspect.getmembers(kind, lambda one: getattr(one, "__isabstractmethod__", False))
    return any(hears) and not lacks
