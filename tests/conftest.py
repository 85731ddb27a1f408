"""What every part of the suite may use: real servers, recorded captures, the run's own folders."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hypothesis
import pytest

from tests.parts import asgi, chromium, icecast, liquidsoap, postgres, redis
from tests.parts.child import python_path

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RECORDED = Path(__file__).parent / "data"

SLOW = (hypothesis.HealthCheck.too_slow,)
# The same examples on every machine, however busy; `--hypothesis-profile explore` looks for new ones.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=SLOW)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=SLOW)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--shots DIR``: keep the screenshots of the browser tests there."""
    parser.addoption("--shots", metavar="DIR", default=None, help="write screenshots of the pages into DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Lets a termination end the private servers too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", returncode=3))
    require_django(os.environ.get("LISTEN_STATS_TEST_DJANGO", ""))


def require_django(wanted: str) -> None:
    """Refuses to prove things about another Django than the one that was asked for."""
    import django

    if wanted and not django.get_version().startswith(f"{wanted}."):
        raise pytest.UsageError(
            f"This run is to prove Django {wanted}, but {django.get_version()} was imported. Run make setup."
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the private PostgreSQL; tests/settings.py started it."""
    postgres.stop()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The Django and the database of this run."""
    import django
    from django.conf import settings

    where = postgres.server().origin if settings.TEST_DB == "postgresql" else "a file, WAL"
    return [f"listen-stats: Django {django.get_version()}, {settings.TEST_DB} ({where})"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """The test database; before it goes, the thread that async tests read it from lets go."""
    yield
    from asgiref.sync import SyncToAsync
    from django.db import connections

    # It lives as long as the process, and PostgreSQL drops no database that somebody uses.
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture(scope="session")
def capture() -> Callable[[str], Path]:
    """``capture("icecast/access.log")``: the path of a recorded file in tests/data."""

    def path_of(name: str) -> Path:
        path = RECORDED / name
        if not path.exists():
            known = sorted(str(one.relative_to(RECORDED)) for one in RECORDED.rglob("*") if one.is_file())
            pytest.fail(f"No capture {name!r} in tests/data. There are: {', '.join(known)}.")
        return path

    return path_of


@pytest.fixture
def child_environment(transactional_db: None) -> dict[str, str]:
    """The environment of a process that works on this test's own database, with these settings."""
    return environment_of_children()


def environment_of_children() -> dict[str, str]:
    """The same for a fixture of a wider scope, which has opened the test database itself."""
    from django.conf import settings
    from django.db import connection

    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "LISTEN_STATS_TEST_DATABASE": str(connection.settings_dict["NAME"]),
        "LISTEN_STATS_TEST_DB": settings.TEST_DB,
        "PYTHONPATH": python_path(),
    }


@pytest.fixture(scope="session")
def postgres_server() -> postgres.Server:
    """The PostgreSQL of this run, also when the suite itself runs on SQLite."""
    return postgres.server()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[redis.Server]:
    """A Redis that answers; not to be stopped by a test (take ``private_redis``)."""
    server = redis.server()
    yield server
    server.stop()


@pytest.fixture
def private_redis() -> Iterator[redis.Server]:
    """A Redis of this test alone, which it may stop and restart."""
    server = redis.start()
    yield server
    server.stop()


@pytest.fixture
def icecast_server() -> Iterator[Callable[..., icecast.Icecast]]:
    """``icecast_server(mounts, environment=...)``: starts an Icecast; all end with the test."""
    started: list[icecast.Icecast] = []

    def start(*args: Any, **kwargs: Any) -> icecast.Icecast:
        server = icecast.Icecast(*args, **kwargs)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def liquidsoap_playout() -> Iterator[liquidsoap.Liquidsoap]:
    """A Liquidsoap with its folder, to be started with a script; ends with the test."""
    playout = liquidsoap.Liquidsoap()
    yield playout
    playout.stop()


@pytest.fixture
def asgi_server() -> Iterator[Callable[..., asgi.AsgiServer]]:
    """``asgi_server("tests.asgi:application", server="daphne", environment=...)``; all end with the test."""
    started: list[asgi.AsgiServer] = []

    def start(application: str, *, server: Literal["uvicorn", "daphne"] = "uvicorn", **kwargs: Any) -> asgi.AsgiServer:
        started.append(asgi.serve(application, server=server, **kwargs))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium; each test opens its own context in it.

    Not for the whole run: Playwright keeps an event loop running in this
    thread, beside which no asynchronous test can run.
    """
    with chromium.browser() as running:
        yield running


@pytest.fixture(scope="session")
def shots_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: the folder of ``--shots``, else one of this run."""
    named = request.config.getoption("--shots")
    folder = Path(named).resolve() if named else tmp_path_factory.mktemp("shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
