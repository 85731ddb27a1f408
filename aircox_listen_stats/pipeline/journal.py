"""Callbacks on disk, from their answer until the database has them: a file for each process.

A record is one line: the CRC-32 of its text in eight hex digits, a space, and
the JSON list ``[source, received_ms, payload]``. No address is in it.

Whose file it is
    The process that writes holds an exclusive ``flock`` on it, which ends with
    the process, however that ends. Whoever gets the lock of a journal owns
    what a dead process left.
Once each
    How far a file was taken is a row of JournalPosition, changed in the
    transaction that writes the Inbox. A file is deleted before its row: the
    other way round a crash between the two would bring all of it again.
What survives
    ``os.write`` hands the line to the kernel before Icecast is answered: what
    was answered survives the process. It survives the machine as well where
    JOURNAL_FSYNC asks for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import pwd
import secrets as entropy
import stat
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from django.db import DataError, IntegrityError, connection, transaction

from .. import conf
from ..models import Inbox, JournalPosition
from . import rows

__all__ = ["Journal", "Waiting", "adopt", "folder", "position", "record", "store", "trouble", "waiting"]

log = logging.getLogger(__name__)

SUFFIX = ".journal"
UNBORN = ".new"
"""A file that is not locked yet. It gets its name with its lock, so that no one takes it for a dead one's."""

UNBORN_SECONDS = 60.0
"""How long a file may be without its name before the process that made it is taken for dead."""

SEGMENT_BYTES = 4 << 20
"""A larger file is closed and a new one begun; the old one goes once the database has it."""

JOURNAL_BYTES = 64 << 20
"""The most that one process leaves on disk while the database is away: 200,000 callbacks."""

IDLE_SECONDS = 60.0
"""A file that the database has is deleted after so long: what it says of two periods must not stay together."""

RETRY_SECONDS = 2.0
"""How long a folder that cannot be written is left alone."""

CHUNK_BYTES = 128 << 10
"""What one transaction takes, some 500 callbacks: on SQLite everybody waits meanwhile."""

ADOPT_BYTES = 4 << 20
"""What one look at the dead journals takes; the collector has other work too."""

CRC_BYTES = 8
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def folder(settings: conf.Settings | None = None) -> Path:
    """Where journals are: JOURNAL_FOLDER, else a folder in the account's home that each database has to itself.

    The home is asked of the system: under supervisord ``HOME`` is root's.
    """
    given = (settings or conf.get()).journal_folder
    if given is not None:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(_home(), ".local", "state")
    database = connection.settings_dict
    named = "\0".join(str(database.get(key, "")) for key in ("ENGINE", "HOST", "PORT", "NAME"))
    return Path(state) / "aircox-listen-stats" / hashlib.sha256(named.encode()).hexdigest()[:16]


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # an account that is a number alone, as in a container
        return os.environ.get("HOME", "/")


def trouble(path: Path) -> str:
    """Why no journal can be kept in that folder, '' where one can. Creates nothing."""
    try:
        found = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
        if not found.is_dir():
            return "it, or what should hold it, is no folder"
        if not os.access(found, os.W_OK | os.X_OK):
            return "this account may not write there"
        return _unsafe(path) if found == path else ""
    except OSError as error:
        return f"it cannot be looked at ({type(error).__name__})"


def _unsafe(path: Path) -> str:
    """Why what stands in the folder cannot be believed, '' where it can."""
    seen = path.stat()
    if seen.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        return "it belongs to another account"
    if seen.st_mode & _OTHERS_MAY_WRITE:
        return "other accounts may write there (its mode should be 0700)"
    return ""


def record(source: str, received_ms: int, payload: Mapping[str, Any]) -> bytes:
    """The text of one callback, as the journal and the Inbox take it."""
    return msgspec.json.encode([source, received_ms, payload])


def _line(text: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _records(chunk: bytes) -> tuple[list[bytes], int]:
    """The texts of the whole lines in ``chunk``, and how many lines were torn or are none of ours.

    One that lacks its end alone is torn too: its writer did not count it.
    """
    *lines, rest = chunk.split(b"\n")
    found, torn = [], int(rest != b"")
    for one in lines:
        text = one[CRC_BYTES + 1 :]
        if text and one[:CRC_BYTES] == b"%08x" % zlib.crc32(text):
            found.append(text)
        elif one:
            torn += 1
    return found, torn


@dataclass(slots=True, kw_only=True, eq=False)
class Segment:
    """One file, open and locked. ``taken`` is None where only the database knows."""

    path: Path
    descriptor: int
    size: int = 0  # bytes of whole records
    taken: int | None = None
    born: float = 0.0
    trouble: str = ""  # of a write that failed: what followed would stand behind a torn line

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)

    @property
    def is_taken(self) -> bool:
        return self.taken is not None and self.taken >= self.size

    def append(self, texts: Sequence[bytes]) -> int:
        """How many of the records, from the first on, the kernel has as a whole. One write; never raises."""
        lines = [_line(text) for text in texts]
        told = b"".join(lines)
        written = self._write(told)
        if written == len(told):
            self.size += written
            return len(lines)
        for index, line in enumerate(lines):
            if written < len(line):
                return index
            written -= len(line)
            self.size += len(line)
        return len(lines)

    def _write(self, told: bytes) -> int:
        written = 0
        try:
            written = os.write(self.descriptor, told)
            if written < len(told):
                self.trouble = "the disk took a part of what was written"
            if conf.get().journal_fsync:
                os.fdatasync(self.descriptor)
        except OSError as error:
            self.trouble = error.strerror or type(error).__name__
        return written

    def take(self, limit: int) -> int:
        """How many callbacks went into the Inbox, of at most ``limit`` bytes. Raises what the database raises."""
        if self.taken is None:
            self.taken = position(self.name)
        done, until = 0, self.taken + limit
        while self.taken < min(self.size, until):
            chunk = os.pread(self.descriptor, min(CHUNK_BYTES, self.size - self.taken), self.taken)
            end = chunk.rfind(b"\n") + 1 or len(chunk)
            if not end:  # the file is shorter than it was
                self.size = self.taken
                break
            texts, torn = _records(chunk[:end])
            if torn:
                log.warning("%d torn lines of a journal are left out: a kill or a power cut came between.", torn)
            before, self.taken = self.taken, None  # until it is committed for certain
            if store(self.name, before, before + end, texts):
                self.taken = before + end
                done += len(texts)
            else:
                self.taken = position(self.name)
        return done

    def remove(self) -> None:
        """Deletes the file, then its row, and lets go of the lock."""
        self.path.unlink(missing_ok=True)
        JournalPosition.objects.filter(pk=self.name).delete()
        self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Journal:
    """The journal of this process: one thread writes it, another takes it into the Inbox."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Segment | None = None
        self._full: list[Segment] = []
        self._try_again = 0.0
        self._trouble = ""

    def write(self, texts: Sequence[bytes]) -> int:
        """How many of the records, from the first on, are in the file. Never raises."""
        if not texts:
            return 0
        with self._lock:
            try:
                segment = self._open()
            except OSError as error:
                self._tell(error.strerror or type(error).__name__)
                self._try_again = time.monotonic() + RETRY_SECONDS
                return 0
            if segment is None:
                return 0
            written = segment.append(texts)
            if segment.trouble:
                self._close_current()
                self._try_again = time.monotonic() + RETRY_SECONDS
            self._tell(segment.trouble)
            return written

    def take(self) -> int:
        """How many callbacks went into the Inbox. Raises what the database raises."""
        done = 0
        for segment in self._segments():
            done += segment.take(JOURNAL_BYTES)
        self._retire()
        return done

    def __len__(self) -> int:
        """Bytes that the database does not have yet."""
        return sum(one.size - (one.taken or 0) for one in self._segments())

    def let_go(self) -> None:
        """Closes all files, whose records then belong to whoever takes them up. In the child of a fork too."""
        for segment in self._segments():
            segment.close()
        self._full, self._current = [], None

    def _segments(self) -> list[Segment]:
        return [*self._full, *([self._current] if self._current else [])]

    def _open(self) -> Segment | None:
        """The file to write into; None while the journal holds all that it may or must wait."""
        if self._current is not None and self._current.size >= SEGMENT_BYTES:
            self._close_current()
        if self._current is None:
            if time.monotonic() < self._try_again:
                return None
            if len(self) >= JOURNAL_BYTES:
                self._tell(f"{JOURNAL_BYTES >> 20} MB wait for the database already")
                return None
            self._current = _create(folder())
        return self._current

    def _close_current(self) -> None:
        if self._current is not None:
            self._full.append(self._current)
            self._current = None

    def _retire(self) -> None:
        """Deletes the files that the database has; the one that is written to, when it was quiet for a while."""
        with self._lock:
            current = self._current
            if current is not None and current.is_taken and time.monotonic() > current.born + IDLE_SECONDS:
                self._close_current()
            over = [one for one in self._full if one.is_taken]
            self._full = [one for one in self._full if not one.is_taken]
        for segment in over:
            segment.remove()

    def _tell(self, trouble: str) -> None:
        """Says once that the journal cannot be written, and once that it can again. Names no path."""
        if trouble == self._trouble:
            return
        if trouble:
            log.error("The journal cannot be written (%s). Callbacks wait in memory: a kill loses them.", trouble)
        else:
            log.info("The journal can be written again.")
        self._trouble = trouble


def _create(path: Path) -> Segment:
    """A new file, locked before anybody can find it. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if unsafe := _unsafe(path):
        raise PermissionError(0, unsafe)
    name = entropy.token_hex(16)
    unborn = path / (name + UNBORN)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(unborn, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unborn, path / (name + SUFFIX))
        if conf.get().journal_fsync:
            _sync_folder(path)
    except OSError:
        os.close(descriptor)
        unborn.unlink(missing_ok=True)
        raise
    return Segment(path=path / (name + SUFFIX), descriptor=descriptor, taken=0, born=time.monotonic())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What dead processes left ------------------------------------------------------


def adopt(path: Path | None = None, *, limit: int = ADOPT_BYTES) -> int:
    """How many callbacks of dead processes went into the Inbox. Raises what the database raises.

    Journals of processes that live, or that somebody else is taking, are left
    alone; so is a folder that this account may not read.
    """
    path = folder() if path is None else path
    done = 0
    for one in _files(path):
        segment = _claim(one)
        if segment is None:
            continue
        try:
            done += segment.take(limit)
            limit -= segment.size
            if segment.is_taken:
                segment.remove()
        finally:
            segment.close()
        if limit <= 0:
            break
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What stands in the folder: journals of processes that live, and of dead ones."""

    living: int = 0
    dead: int = 0
    dead_bytes: int = 0


def waiting(path: Path | None = None) -> Waiting:
    """How many journals there are. Takes nothing."""
    living, dead_bytes = 0, []
    for one in _files(folder() if path is None else path):
        segment = _claim(one)
        if segment is None:
            living += 1
            continue
        dead_bytes.append(segment.size)
        segment.close()
    return Waiting(living=living, dead=len(dead_bytes), dead_bytes=sum(dead_bytes))


def _files(path: Path) -> Iterator[Path]:
    """The journals in the folder, oldest first; removes those that died before they had a name."""
    try:
        if _unsafe(path):
            return
        entries = sorted((entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in os.scandir(path))
    except OSError:
        return
    for changed, name in entries:
        if name.endswith(SUFFIX):
            yield path / name
        elif name.endswith(UNBORN) and time.time() - changed > UNBORN_SECONDS:
            (path / name).unlink(missing_ok=True)


def _claim(path: Path) -> Segment | None:
    """A dead process's journal, locked; None where it is not ours to take."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, named = os.fstat(descriptor), os.stat(path, follow_symlinks=False)
        # Whoever had the lock before us may have taken and deleted it.
        if stat.S_ISREG(mine.st_mode) and (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino):
            return Segment(path=path, descriptor=descriptor, size=mine.st_size)
    except OSError:
        pass
    os.close(descriptor)
    return None


# The Inbox ----------------------------------------------------------------------


def position(name: str) -> int:
    """How far the journal was taken, as the database knows it; 0 where it knows nothing of it."""
    return JournalPosition.objects.filter(pk=name).values_list("taken", flat=True).first() or 0


def store(name: str, before: int, after: int, texts: Sequence[bytes]) -> bool:
    """Writes the records and moves the position from ``before`` to ``after``, together or not at all.

    False, and nothing is written, where the position is not ``before``: the
    commit of somebody who died had come through after all. What it wrote last
    is waited for.
    """
    with transaction.atomic():
        if not _move(name, before, after):
            return False
        _insert(texts)
    return True


def _move(name: str, before: int, after: int) -> bool:
    table, now_ms = rows.table(JournalPosition), time.time_ns() // 1_000_000
    with connection.cursor() as cursor:
        if before:
            cursor.execute(
                f"UPDATE {table} SET taken = %s, changed = %s WHERE name = %s AND taken = %s",
                [after, now_ms, name, before],
            )
        else:
            cursor.execute(
                f"INSERT INTO {table} (name, taken, changed) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [name, after, now_ms],
            )
        return cursor.rowcount == 1


_INSERT = {
    "postgresql": "INSERT INTO {table} (source, received, payload)"
    " SELECT one->>0, (one->>1)::bigint, one->2"
    " FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS told(one, place) ORDER BY place",
    "sqlite": "INSERT INTO {table} (source, received, payload)"
    " SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')"
    " FROM json_each(%s) ORDER BY key",
}
"""All records in one parameter: the database takes them apart, and this process answers meanwhile."""


def _insert(texts: Sequence[bytes]) -> None:
    """Writes what the database takes; a record that it refuses must not hold up the others."""
    if not texts:
        return
    sql = _INSERT[connection.vendor].format(table=rows.table(Inbox))
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql, [(b"[" + b",".join(texts) + b"]").decode()])
    except (DataError, IntegrityError) as error:
        if len(texts) == 1:
            log.error("The database refuses a callback (%s); it is left out.", type(error).__name__)
            return
        half = len(texts) // 2
        _insert(texts[:half])
        _insert(texts[half:])
