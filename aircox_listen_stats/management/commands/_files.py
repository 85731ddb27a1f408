"""Where commands write what they export."""

from __future__ import annotations

import datetime as dt
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.core.management.base import CommandError

from ... import conf
from ...reports import query
from ...reports.query import Period


@contextmanager
def written(path: str) -> Iterator[IO[bytes]]:
    """An open file that takes its name once it is whole; ``-`` is the standard output."""
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise CommandError(f"{target.name} cannot be written ({type(error).__name__}). Is its folder there?") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def period(first: str, last: str) -> Period:
    """The broadcast days from ``first`` to ``last``, both included."""
    begin, end = _day(first, "FROM"), _day(last, "TO")
    if end < begin:
        raise CommandError(f"TO is {last}, before FROM, which is {first}.")
    if (end - begin).days >= query.LONGEST_DAYS:
        raise CommandError(f"{first} to {last} is longer than the {query.LONGEST_DAYS} days that a report may span.")
    return query.days(begin, end, conf.get())


def _day(text: str, option: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} is {text!r}; expected a day such as 2026-11-22.") from None
