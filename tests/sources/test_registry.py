"""From the settings to the sources."""

from __future__ import annotations

from typing import Any

import pytest

from aircox_listen_stats import conf
from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.sources import registry
from aircox_listen_stats.sources.accesslog import AccessLogSource
from aircox_listen_stats.sources.icecast import IcecastSource
from aircox_listen_stats.sources.urlauth import UrlAuthSource

ICECAST = {"backend": "icecast", "url": "http://127.0.0.1:8000", "password": "x"}


def read(sources: dict[str, Any], streams: dict[str, Any]) -> conf.Settings:
    return conf.read({"SOURCES": sources, "STREAMS": streams, "TRUSTED_PROXIES": ["127.0.0.0/8"]})


def test_short_names_and_dotted_paths() -> None:
    settings = read(
        {
            "one": ICECAST,
            "two": {"backend": "accesslog", "path": "/var/log/icecast2/access.log"},
            "three": {"backend": "aircox_listen_stats.sources.urlauth.UrlAuthSource"},
        },
        {"live": {"source": "one", "fallbacks": ["/fb.mp3"]}, "low": {"source": "two", "mount": "/low.mp3"}},
    )
    built = registry.build(settings)
    assert [type(built[name]) for name in ("one", "two", "three")] == [IcecastSource, AccessLogSource, UrlAuthSource]
    assert built["one"].streams == {"/live": "live"}
    assert built["one"].fallbacks == {"live": ("/fb.mp3",)}
    assert built["one"].trusted_proxies == ("127.0.0.0/8",)
    assert built["two"].streams == {"/low.mp3": "low"}
    assert built["three"].streams == {}


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        ("iceacst", "Did you mean 'icecast'"),
        ("nowhere.at.All", "cannot be imported"),
        ("aircox_listen_stats.sources.base.Nothing", "cannot be imported"),
        ("aircox_listen_stats.sources.base.Report", "no source"),
    ],
)
def test_backends_that_are_none_are_refused_by_name(backend: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        registry.build(read({"one": {**ICECAST, "backend": backend}}, {}))


def test_one_mount_is_one_stream() -> None:
    settings = read({"one": ICECAST}, {"a": {"source": "one", "mount": "/x"}, "b": {"source": "one", "mount": "/x"}})
    with pytest.raises(ConfigurationError, match="counted once"):
        registry.build(settings)


def test_a_source_that_is_not_configured_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Configured: one"):
        registry.source(read({"one": ICECAST}, {}), "two")
