"""Closed sessions on their way into the table, by the thousand: columns, past the ORM."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from django.db import connection

from ..kernel.arrays import Bools, Ints
from ..models import LONG_SESSION_MS, Session
from . import rows

__all__ = ["COLUMNS", "Label", "Rows"]

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

VALUES_AT_ONCE = 75
"""Rows in one INSERT: a third faster on SQLite than one by one. SQLite took no more than 999 values until 3.32."""

ROWS_AT_ONCE = 4096
"""Rows that are written into one piece of COPY: half a megabyte."""


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
    ) -> None:
        self._size = len(listener)
        numbers = (stream_id, listener, started_ms, ended_ms, played_ms)
        is_long = ended_ms - started_ms > LONG_SESSION_MS
        self._copied: list[bytes] = []
        self._values: npt.NDArray[np.object_] | None = None
        if _has_copy():
            self._copied = list(_copied(numbers, parts, is_long, label, labels, source))
        else:
            self._values = _values(numbers, parts, is_long, label, labels, source)

    def __len__(self) -> int:
        return self._size

    def insert(self) -> None:
        """Stores the rows: by binary COPY on PostgreSQL, by INSERTs of many rows elsewhere."""
        if not self._size:
            return
        columns = ", ".join(connection.ops.quote_name(name) for name in COLUMNS)
        with connection.cursor() as cursor:
            if self._values is None:
                with cursor.copy(f"COPY {rows.table(Session)} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
                    for piece in (_COPY_HEAD, *self._copied, _COPY_END):
                        copy.write(piece)
                return
            into = f"INSERT INTO {rows.table(Session)} ({columns}) VALUES "
            one = f"({', '.join(['%s'] * len(COLUMNS))})"
            whole = self._size // VALUES_AT_ONCE * VALUES_AT_ONCE
            if whole:
                many = self._values[:whole].reshape(-1, VALUES_AT_ONCE * len(COLUMNS))
                cursor.executemany(into + ", ".join([one] * VALUES_AT_ONCE), map(np.ndarray.tolist, many))
            if whole < self._size:
                cursor.executemany(into + one, self._values[whole:].tolist())


Numbers = tuple[int, Ints, Ints, Ints, Ints]
"""Stream, listener, start, end, milliseconds played: the first columns."""


def _has_copy() -> bool:
    """psycopg can; psycopg2 and SQLite cannot."""
    connection.ensure_connection()
    return connection.vendor == "postgresql" and hasattr(connection.connection, "pgconn")


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
    tails = [
        _truth(False) + _truth(long) + b"".join(map(_text, (*one, source))) for one in labels for long in (False, True)
    ]
    middles = [_NULL] * len(heads)
    for row, text in parts.items():
        middles[row] = _json(text)
    bodies = heads.view(f"V{heads.itemsize}")
    kind = label * 2 + is_long
    for first in range(0, len(heads), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        ends = [tails[number] for number in kind[some].tolist()]
        yield b"".join(itertools.chain.from_iterable(zip(bodies[some].tolist(), middles[some], ends, strict=True)))


def _truth(value: bool) -> bytes:
    return struct.pack("!i?", 1, value)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("!i", len(encoded)) + encoded


def _json(parts: str) -> bytes:
    encoded = _JSONB_VERSION + parts.encode()
    return struct.pack("!i", len(encoded)) + encoded
