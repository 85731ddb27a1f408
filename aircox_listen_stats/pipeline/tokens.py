"""Tokens of programs that tell or read stream events: shown once, kept as a hash.

A token has 256 random bits, so that a plain SHA-256 of it cannot be turned back.
"""

from __future__ import annotations

import hashlib
import secrets as entropy
from collections.abc import Iterable

from django.db.models import Q

from ..fields import from_ms, to_ms
from ..models import IngestToken

SCOPES = (IngestToken.INGEST, IngestToken.READ)

BEGINNING = "als_"
"""What a scanner of published secrets can know a token by."""

TOKEN_BYTES = 32
SHOWN = 8
"""Characters of a token that lists show, its beginning included."""

USED_EVERY_MS = 60_000
"""How often the last use is written: a shipper comes every second."""


def create(*, name: str, source: str, scopes: Iterable[str], now_ms: int) -> tuple[IngestToken, str]:
    """The row and the token itself, which nobody can show again."""
    token = BEGINNING + entropy.token_urlsafe(TOKEN_BYTES)
    row = IngestToken.objects.create(
        name=name,
        source=source,
        scopes=" ".join(scope for scope in SCOPES if scope in set(scopes)),
        digest=_digest(token),
        prefix=token[:SHOWN],
        created=from_ms(now_ms),
    )
    return row, token


def rotate(old: IngestToken, *, grace_ms: int, now_ms: int) -> tuple[IngestToken, str]:
    """A second token of the same name, source and scopes; ``old`` lives for ``grace_ms`` more, or as it was to."""
    made = create(name=old.name, source=old.source, scopes=old.scopes.split(), now_ms=now_ms)
    expires = from_ms(now_ms + grace_ms)
    IngestToken.objects.filter(pk=old.pk).filter(Q(expires=None) | Q(expires__gt=expires)).update(expires=expires)
    return made


def revoke(row: IngestToken, *, now_ms: int) -> None:
    """From now on the token is nobody's."""
    IngestToken.objects.filter(pk=row.pk, revoked=None).update(revoked=from_ms(now_ms))


def valid(token: str, *, now_ms: int) -> IngestToken | None:
    """The row of a token that is neither revoked nor expired."""
    row = IngestToken.objects.filter(digest=_digest(token), revoked=None).first()
    if row is None or (row.expires is not None and to_ms(row.expires) <= now_ms):
        return None
    return row


def note_use(row: IngestToken, *, now_ms: int) -> None:
    """Writes that the token was used, once a minute."""
    if row.used is None or abs(now_ms - to_ms(row.used)) >= USED_EVERY_MS:
        IngestToken.objects.filter(pk=row.pk).update(used=from_ms(now_ms))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
