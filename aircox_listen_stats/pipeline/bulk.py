"""Closed sessions on their way into the table, by the thousand: columns, past the ORM."""

from __future__ import annotations

import functools
import itertools
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection

from ..kernel.arrays import Bools, Ints
from ..models import LONG_SESSION_MS, Session
from . import rows

__all__ = ["COLUMNS", "Label", "Rows", "Way", "way"]

COLUMNS = (
    "stream_id",
    "listener",
    "started",
    "ended",
    "played_ms",
    "parts",
    "is_open",
    "is_long",
    "country",
    "app",
    "exclusion",
    "rule",
    "source",
)
"""What a session of a log has; the other columns stay null."""

Label = tuple[str, str, str, str]
"""Country, app, exclusion, rule: the last columns but the source."""

ROWS_OF_INSERT = (1000, 100, 10, 1)
"""In one INSERT of SQLite, as many as are left: three times as fast as one by one, and no new statement for each
batch. SQLite takes 32,766 values at once, 999 before 3.32."""

ROWS_AT_ONCE = 4096
"""Rows that are written into one piece of COPY: half a megabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a database takes many rows fastest: by COPY, or so many values in one statement."""

    copies: bool = False
    values_at_once: int = 0
    mark: str = "%s"  # of a value in a statement


def way() -> Way:
    """The way of this thread's connection."""
    connection.ensure_connection()
    driver = connection.connection
    if connection.vendor == "postgresql":
        return Way(copies=hasattr(driver, "pgconn"))  # psycopg can
    if connection.vendor == "sqlite":
        return Way(values_at_once=driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER), mark="?")
    return Way()


class Rows:
    """Closed sessions of one stream and one source, made ready beforehand: :meth:`insert` holds locks.

    ``parts`` is the JSON of those that are not in one piece, by row; ``label``
    holds indices into ``labels``.
    """

    def __init__(
        self,
        *,
        stream_id: int,
        source: str,
        listener: Ints,
        started_ms: Ints,
        ended_ms: Ints,
        played_ms: Ints,
        parts: Mapping[int, str],
        label: Ints,
        labels: Sequence[Label],
        way: Way,
    ) -> None:
        self._size = len(listener)
        numbers = (stream_id, listener, started_ms, ended_ms, played_ms)
        is_long = ended_ms - started_ms > LONG_SESSION_MS
        self._pieces: list[bytes] = []
        self._statements: list[tuple[str, list[list[Any]]]] = []
        if way.copies:
            self._pieces = list(_copied(numbers, parts, is_long, label, labels, source))
            return
        values = _values(numbers, parts, is_long, label, labels, source)
        is_odd = is_long | np.array([bool(one[2]) for one in labels], dtype=np.bool_)[label]
        is_cut = np.zeros(len(listener), dtype=np.bool_)
        is_cut[list(parts)] = True
        alike = {"stream_id": str(stream_id), "source": _literal(source, way), "is_open": "FALSE"}
        for rows_alike, more in ((~is_odd & ~is_cut, _PLAIN | _WHOLE), (~is_odd & is_cut, _PLAIN), (is_odd, {})):
            self._statements += _statements(values[rows_alike], alike | more, way)

    def __len__(self) -> int:
        return self._size

    def insert(self) -> None:
        """Stores the rows: by binary COPY on PostgreSQL, by INSERTs elsewhere."""
        with connection.cursor() as cursor:
            if self._pieces:
                with cursor.copy(f"COPY {_into(COLUMNS)} FROM STDIN (FORMAT BINARY)") as copy:
                    for piece in (_COPY_HEAD, *self._pieces, _COPY_END):
                        copy.write(piece)
            for statement, values in self._statements:
                if connection.vendor == "sqlite":
                    # Django would look for the values' marks in each of these long statements every time.
                    with connection.wrap_database_errors:
                        sqlite3.Cursor.executemany(cursor.cursor, statement, values)
                else:
                    cursor.executemany(statement, values)


# INSERTs of many rows ----------------------------------------------------------------------------

_PLAIN = {"is_long": "FALSE", "exclusion": "''", "rule": "''"}
"""Nearly all sessions last four hours at most and count."""
_WHOLE = {"parts": "NULL"}
"""Nine of ten are in one piece."""


def _statements(
    values: npt.NDArray[np.object_], alike: Mapping[str, str], way: Way
) -> Iterator[tuple[str, list[list[Any]]]]:
    """Statements with their values. What all rows have ``alike`` is written out: each value given takes time."""
    given = [name for name in COLUMNS if name not in alike]
    values = values[:, [COLUMNS.index(name) for name in given]]
    first = 0
    for at_once in ROWS_OF_INSERT:
        count = (len(values) - first) // at_once * at_once
        if count and (at_once == 1 or at_once * len(given) <= way.values_at_once):
            some = values[first : first + count].reshape(-1, at_once * len(given))
            yield _insert(given, alike, at_once, way), some.tolist()
            first += count


def _insert(given: Sequence[str], alike: Mapping[str, str], count: int, way: Way) -> str:
    row = f"({', '.join([*[way.mark] * len(given), *alike.values()])})"
    return f"INSERT INTO {_into((*given, *alike))} VALUES {', '.join([row] * count)}"


def _literal(text: str, way: Way) -> str:
    """The text as SQL, in a statement that has values too."""
    text = text.replace("'", "''")
    return f"'{text.replace('%', '%%') if '%' in way.mark else text}'"


def _into(names: Iterable[str]) -> str:
    return f"{rows.table(Session)} ({', '.join(map(connection.ops.quote_name, names))})"


Numbers = tuple[int, Ints, Ints, Ints, Ints]
"""Stream, listener, start, end, milliseconds played: the first columns."""


def _values(
    numbers: Numbers, parts: Mapping[int, str], is_long: Bools, label: Ints, labels: Sequence[Label], source: str
) -> npt.NDArray[np.object_]:
    """A row of Python's own values for each session, in the order of COLUMNS."""
    values = np.empty((len(label), len(COLUMNS)), dtype=object)
    for place, column in enumerate((*numbers, None, False, is_long)):
        values[:, place] = column
    for row, text in parts.items():
        values[row, len(numbers)] = text
    known = np.empty((len(labels), len(labels[0]) if labels else 0), dtype=object)
    if labels:
        known[:] = labels
        values[:, -5:-1] = known[label]
    values[:, -1] = source
    return values


# PostgreSQL's binary format ----------------------------------------------------------------------
# PostgreSQL manual, COPY, "Binary Format": a row is the number of its fields, then each one's length
# and bytes in network order; a length of -1 is NULL. A jsonb's bytes are its version, 1, and its text.

_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_COPY_END = struct.pack("!h", -1)
_NULL = struct.pack("!i", -1)
_NUMBERS = 5
_JSONB_VERSION = b"\1"
_LENGTHS = [struct.pack("!i", size) for size in range(256)]

_FIRST_FIELDS = np.dtype(
    [("fields", ">i2")] + [one for name in COLUMNS[:_NUMBERS] for one in ((f"{name}_length", ">i4"), (name, ">i8"))]
)
"""What is as long in every row; the parts, the truths and the texts follow."""


def _copied(
    numbers: Numbers, parts: Mapping[int, str], is_long: Bools, label: Ints, labels: Sequence[Label], source: str
) -> Iterator[bytes]:
    """The rows as COPY takes them, some thousand at a time."""
    heads = np.empty(len(label), dtype=_FIRST_FIELDS)
    heads["fields"] = len(COLUMNS)
    for name, column in zip(COLUMNS, numbers, strict=False):
        heads[f"{name}_length"] = heads.dtype[name].itemsize
        heads[name] = column
    tails = [_tail((*one, source), is_long=long) for one in labels for long in (False, True)]
    middles = [_NULL] * len(heads)
    for row, text in parts.items():
        middles[row] = _json(text)
    bodies = heads.view(f"V{heads.itemsize}")
    kind = label * 2 + is_long
    for first in range(0, len(heads), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        ends = [tails[number] for number in kind[some].tolist()]
        yield b"".join(itertools.chain.from_iterable(zip(bodies[some].tolist(), middles[some], ends, strict=True)))


@functools.lru_cache(maxsize=4096)
def _tail(texts: tuple[str, ...], *, is_long: bool) -> bytes:
    """The truths and the texts of a row. Batch after batch has the same few."""
    return _truth(False) + _truth(is_long) + b"".join(map(_text, texts))


def _truth(value: bool) -> bytes:
    return struct.pack("!i?", 1, value)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("!i", len(encoded)) + encoded


def _json(parts: str) -> bytes:
    size = len(parts) + len(_JSONB_VERSION)  # digits and brackets: a byte each
    head = _LENGTHS[size] if size < len(_LENGTHS) else struct.pack("!i", size)
    return head + _JSONB_VERSION + parts.encode("ascii")
