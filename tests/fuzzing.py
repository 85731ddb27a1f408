"""Bytes that a parser must stand: recorded ones with pieces flipped, cut, doubled and put in, and made-up ones.

``FUZZ_EXAMPLES=20000 pytest tests/sources/test_fuzz.py tests/web/test_fuzz.py``
tries that many of each kind, other ones in each run; without it some are tried,
the same ones in each run.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aircox_listen_stats.errors import MalformedRecord

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SUITE_EXAMPLES = 100
MOST_SECONDS = 20.0
"""No input of these sizes may take so long, on however slow a machine."""
MOST_CHANGES = 6
LONGEST_PIECE = 40

NASTY = (
    *(b"\0", b"\x1f", b"\x7f", b"\x80", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"),
    *(b"\\", b'"', b"'", b'\\"', b"\\\\", b"\\x", b"\\x00", b"\\u0000", b"\\ud800", b"\\udc80", b"\\u2028"),
    *(b"%", b"%0", b"%00", b"%zz", b"%ff", b"%2500", b"+", b"&", b"=", b"&&", b";", b",", b"|", b"\t", b"\r\n", b"\n"),
    *(b"-", b"-1", b"0", b"00", b"1e400", b"1.5", b"NaN", b"Infinity", b"-Infinity", b"null", b"true", b"[]", b"{}"),
    *(b"9" * 19, b"9223372036854775808", b"18446744073709551616", b"9" * 400, b"9" * 5000, b"1" + b"0" * 308),
    *("²".encode(), "٣".encode(), "½".encode(), "\u202e".encode(), "İ".encode(), "ﬁ".encode()),
    *(b"<", b">", b"&#0;", b"&#xD800;", b"&amp;", b"<!DOCTYPE x>", b"<!ENTITY x 'y'>", b"<![CDATA[", b"]]>", b"<!--"),
    *(b'<?xml version="1.0" encoding="UTF-7"?>', b'<?xml version="1.0" encoding="rot13"?>', b"<a xmlns:b='c'>"),
    *(b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"(" * 300, b" " * 3000, b"a" * 20_000),
    *(b"::", b"::1", b"::ffff:192.0.2.1", b"fe80::1%eth0", b"1.2.3", b"256.1.1.1", b"0x7f.1", b"[2001:db8::1]"),
    *(b"/../", b"//", b"/./", b"?", b"#", b"/\xff", b"31/Feb/2026", b"24:00:00", b"/0000:", b"+9999", b"00:00:60"),
    *(b"bytes=0-", b"bytes=-1", b"bytes=" + b"9" * 30 + b"-", b"bytes=0-1,2-3", b"HTTP/1.1", b" "),
)
"""What has broken parsers before."""

_ADDRESSES = re.compile(rb"\d{1,3}(?:\.\d{1,3}){3}|2001:db8:[0-9a-f:]+")
_REASON = re.compile(r"[A-Za-z_]{1,32}")


def fuzzed(made: Callable[[], st.SearchStrategy[Any]]) -> Callable[[Any], Any]:
    """Runs the test with many values; ``made`` gives them."""
    from hypothesis import given

    chosen = settings(
        max_examples=EXAMPLES or SUITE_EXAMPLES,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: chosen(given(made())(test))


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of the samples, changed here and there."""
    told = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, MOST_CHANGES))):
        told = draw(_changed(told, samples))
    return told


@st.composite
def _changed(draw: st.DrawFn, told: bytes, samples: Sequence[bytes]) -> bytes:
    at = draw(st.integers(0, len(told)))
    until = min(len(told), at + draw(st.integers(0, LONGEST_PIECE)))
    kind = draw(st.sampled_from(("flip", "cut", "insert", "nasty", "replace", "double", "end", "splice")))
    if kind == "flip" and at < len(told):
        return told[:at] + bytes([told[at] ^ 1 << draw(st.integers(0, 7))]) + told[at + 1 :]
    if kind == "cut":
        return told[:at] + told[until:]
    if kind == "insert":
        return told[:at] + draw(st.binary(max_size=8)) + told[at:]
    if kind == "nasty":
        return told[:at] + draw(st.sampled_from(NASTY)) + told[at:]
    if kind == "replace":
        return told[:at] + draw(st.sampled_from(NASTY)) + told[until:]
    if kind == "double":
        return told[:until] + told[at:]
    if kind == "end":
        return told[:at]
    other = draw(st.sampled_from(samples))
    return told[:at] + other[draw(st.integers(0, len(other))) :]


def made_up(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes from scratch: any, nasty ones strung together, and with words of the samples."""
    words = sorted({word for sample in samples[:20] for word in re.findall(rb"[\w/.:-]+|[^\w\s]+", sample)[:60]})
    pieces = st.sampled_from([*NASTY, *words]) if words else st.sampled_from(NASTY)
    return st.one_of(st.binary(max_size=300), st.lists(pieces, max_size=30).map(b"".join))


def anything(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Mostly mutated samples."""
    return st.one_of(mutated(samples), mutated(samples), mutated(samples), made_up(samples))


@contextmanager
def bounded(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Fails what does not come to an end."""

    def over(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def told_or_refused(parse: Callable[[bytes], Any], told: bytes, *errors: type[Exception]) -> Any:
    """What the parser gives, None where it refuses as it should: in time, by a documented error, without an address."""
    refusal: Exception
    with bounded():
        try:
            return parse(told)
        except (MalformedRecord, *errors) as error:
            refusal = error
    assert_quotes_no_address(refusal, told)
    if isinstance(refusal, MalformedRecord):
        assert _REASON.fullmatch(refusal.reason), f"{refusal.reason!r} is no short code"
    return None


def assert_quotes_no_address(refusal: Exception, told: bytes, *, own: Sequence[bytes] = ()) -> None:
    """The error's text holds none of the addresses in ``told``, but for our ``own`` ones."""
    text = str(refusal).encode("utf-8", "surrogatepass")
    for address in set(_ADDRESSES.findall(told)) - set(own):
        assert address not in text, "the error quotes an address"
