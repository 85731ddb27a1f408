"""A source of another station: one file and one setting, and it is heard, examined and under the contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import checks

from aircox_listen_stats import conf, doctor, sources
from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.models import Session, SourceState
from aircox_listen_stats.pipeline import live, timeline
from aircox_listen_stats.pipeline.collect import Collector
from aircox_listen_stats.sources import registry

from .conftest import T0, at
from .scripted import OneStation

ROOT = Path(__file__).resolve().parents[2]

SOURCE = '''
"""Listeners in a JSON file: [{"id", "ip", "agent", "since_ms"}]."""

import json
from pathlib import Path

from aircox_listen_stats.errors import SourceUnavailable
from aircox_listen_stats.kernel.types import Address, Observation
from aircox_listen_stats.sources.base import Census, Heard, PullSource, Report


class ToySource(PullSource):
    options = {"path": str}
    interval_seconds = 0.01

    def configure(self, *, path=""):
        self._path = Path(path)

    def pull(self, cursor, *, now_ms):
        try:
            rows = json.loads(self._path.read_text())
            told = [self._observation(row, now_ms) for row in rows]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SourceUnavailable(f"Source {self.name!r} cannot be read ({type(error).__name__}).") from None
        streams = frozenset(self.streams.values())
        return Report(
            source=self.name,
            observations=told,
            census=Census(streams=streams, at_ms=now_ms),
            heard=[Heard(stream=one, started_ms=now_ms, ended_ms=now_ms) for one in streams],
            cursor={},
            counts={"read": len(rows), "kept": len(told)},
        )

    def _observation(self, row, now_ms):
        return Observation(
            stream=next(iter(self.streams.values())),
            started_ms=row["since_ms"],
            seen_ms=now_ms,
            client=str(row["id"]),
            address=Address(ip=row["ip"], agent=row["agent"]),
        )
'''

TEST = """
import json

import pytest

from aircox_listen_stats.testing import PullContract
from MODULE import ToySource


class TestToySource(PullContract):
    source_class = ToySource
    hidden = ("192.0.2.7", "VLC/3.0.20")

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.folder = tmp_path
        row = {"id": 7, "ip": "192.0.2.7", "agent": "VLC/3.0.20", "since_ms": self.now_ms - 60_000}
        (tmp_path / "listeners.json").write_text(json.dumps([row]))

    def source(self, **options):
        return super().source(**{"path": str(self.folder / "listeners.json"), **options})

    def failing(self):
        yield "no file", self.source(path=str(self.folder / "none.json"))
        (self.folder / "blank.json").touch()
        yield "blank", self.source(path=str(self.folder / "blank.json"))
        (self.folder / "other.json").write_text('{"error": 1}')
        yield "another JSON", self.source(path=str(self.folder / "other.json"))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The module of a package that this repository knows nothing of."""
    folder = tmp_path / "site" / "another_station"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "toy.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield "another_station.toy"
    for name in ("another_station", "another_station.toy"):
        sys.modules.pop(name, None)


def settings_of(backend: str, path: Path) -> dict[str, Any]:
    return {
        "SOURCES": {"ours": {"backend": backend, "path": str(path)}},
        "STREAMS": {"live": {"source": "ours", "station": 1}},
        "TIME_ZONE": "Europe/Brussels",
    }


@pytest.mark.django_db(transaction=True)
def test_a_source_of_another_package_is_heard_by_one_setting(
    package: str, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "refresh", lambda *args, **kwargs: timeline.TimelineChange())
    monkeypatch.setattr(live.aircox, "log", OneStation)
    path = tmp_path / "listeners.json"
    path.write_text(json.dumps([{"id": 7, "ip": "192.0.2.7", "agent": "VLC/3.0.20", "since_ms": T0}]))
    settings.AIRCOX_LISTEN_STATS = settings_of(f"{package}.ToySource", path)
    one = Collector(sources=registry.build(conf.get()), onair=OneStation())  # type: ignore[arg-type]
    for second in range(200):
        one.step(now_ms=at(100 + second))
        if Session.objects.exists():
            break
        time.sleep(0.01)
    one.close()
    session = Session.objects.get()
    assert (session.source, session.stream.slug, session.app, session.is_open) == ("ours", "live", "VLC", True)
    assert SourceState.objects.get(pk="ours").failures == 0
    assert not [found for found in checks.run_checks() if "ours" in found.msg]
    assert [found.text for found in doctor.examine(now_ms=at(300)) if found.subject == "source ours"] == [
        "answers; 1 sockets or lines in this answer."
    ]


def test_the_contract_is_kept_in_a_repository_of_its_own(package: str, tmp_path: Path) -> None:
    home = tmp_path / "site"
    (home / "test_toy.py").write_text(TEST.replace("MODULE", package))
    (home / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of this repository
    environment["PYTHONPATH"] = os.pathsep.join([str(home), str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(home)]
    ran = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    assert "skipped" not in ran.stdout


def test_a_file_in_the_folder_of_the_sources_is_its_own_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text(SOURCE)
    before = registry.short_names()
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    try:
        assert set(registry.short_names()) == {*before, "elsewhere"}
        built = registry.build(conf.read(settings_of("elsewhere", tmp_path)))
        assert type(built["ours"]).__name__ == "ToySource"
        with pytest.raises(ConfigurationError, match="Did you mean 'elsewhere'"):
            registry.backend("elswhere")
    finally:
        sys.modules.pop(f"{sources.__name__}.elsewhere", None)
        vars(sources).pop("elsewhere", None)


def test_what_several_sources_share_is_no_short_name() -> None:
    assert not {"base", "follow", "polling", "segments", "registry"} & set(registry.short_names())
    for name in ("base", "polling", "follow"):
        with pytest.raises(ConfigurationError, match=f"Unknown backend '{name}'"):
            registry.backend(name)
