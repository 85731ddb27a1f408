"""Events that were refused, kept so that they can be mended and told again.

What was understood of such an event is kept as an accepted one is: its
listener as a key, its path as a stream, a rendition and a number. What was
wrong is kept as a shape, without a digit or a letter of it, since anything may
stand in the wrong field. So nothing kept here is more than what an accepted
event keeps, and a mended event is the same event as the right one, sent sooner
or later. That is so as long as the right one is kept, and under the secret of
the period in which the event ended: beyond, a letter is not told again, since
it might be counted twice.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from .. import conf
from ..errors import ListenStatsError
from ..fields import from_ms, to_ms
from ..kernel.types import ListenerMark
from ..models import DeadLetter
from ..sources import hls
from ..sources.stream_events import FIELDS, BadField, Event, StreamEventsSource, Told, event_of, instant_of
from . import event_rows
from .event_rows import oldest_known_ms

LONGEST_SHAPE = 96
LONGEST_NAME = 48
LONGEST_ENDING = 8
"""Characters of a segment's path before and after its number: ``hi_`` and ``.ts``."""

PORTION = 1_000
"""Letters told again in one transaction."""

ABSENT = ""
"""The shape of a field that was not there."""

_LISTENER = "listener"
"""Under this name a letter keeps whose event it was."""

_KEYS_SINCE = "keys_since"
"""Under this name, when the period began under whose secret the listener and the session are keys."""

_PLAIN = ("origin", "status", "bytes_sent", "seconds_connected")
_STAMPS = ("time_end", "time_start")
_WHOSE = ("ip", "user_agent", "forwarded_for")
MENDABLE = tuple(name for name in FIELDS if name != "referer")

_METHOD = re.compile(r"[A-Z]{1,8}")
_RANGE = re.compile(r"bytes=[0-9]{0,18}-[0-9]{0,18}")
_TYPES = {one.name: one.type for one in msgspec.structs.fields(Event)}
_STAND_INS: Mapping[str, Any] = {"ip": "0.0.0.0", "method": "GET", "status": 200, "time_end": 1, "path": "/"}
"""What stands where a field is missing, to place the path all the same."""


class UnknownField(ListenStatsError):
    """A field that no event has, or that cannot be mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A refused event, ready to be kept."""

    index: int
    field: str
    value: str
    reason: str
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of letters that were told again."""

    accepted: int = 0
    duplicates: int = 0
    ignored: int = 0  # well-formed now, and no listening
    too_old: int = 0  # kept: the right event may have been counted and forgotten since
    refused: int = 0  # kept: something is still wrong


def shape(value: Any) -> str:
    """What a value looks like: 9 for each digit, a or A for each letter, other signs as they are."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(map(_sign, text[:LONGEST_SHAPE]))


def _sign(character: str) -> str:
    if character.isdigit() or character.isnumeric():
        return "9"
    if character.isalpha():
        return "A" if character.isupper() else "a"
    return character if character.isascii() and character.isprintable() else "."


def letter(door: event_rows.Door, index: int, error: BadField, sent: Event | bytes) -> Letter:
    """What is kept of an event that was refused for ``error``. Its address ends here."""
    told = msgspec.to_builtins(sent) if isinstance(sent, Event) else _decoded(sent)
    fields = told if isinstance(told, dict) else {}
    wrong = fields.get(error.field) if error.field else told
    return Letter(
        index=index,
        field=error.field,
        value=ABSENT if error.reason == "missing" else shape(wrong),
        reason=error.reason,
        event=_understood(door, {name: value for name, value in fields.items() if name != error.field}),
    )


def keep(source: str, letters: Sequence[Letter], *, now_ms: int) -> int:
    """How many of these are kept: those that were not kept before, while there is room for the source."""
    if not letters:
        return 0
    room = conf.get().ingest.max_dead_letters - DeadLetter.objects.filter(source=source).count()
    same: Counter[bytes] = Counter()
    kept = []
    for one in letters[: max(room, 0)]:
        says = msgspec.json.encode([source, one.field, one.value, one.reason, one.event], order="sorted")
        same[says] += 1
        kept.append(
            DeadLetter(
                key=_key(says, same[says]),
                source=source,
                received=from_ms(now_ms),
                index=one.index,
                field=one.field,
                value=one.value,
                reason=one.reason,
                event=one.event,
            )
        )
    for start in range(0, len(kept), PORTION):
        DeadLetter.objects.bulk_create(kept[start : start + PORTION], ignore_conflicts=True, batch_size=PORTION)
    return len(kept)


def mend(source: StreamEventsSource, row: DeadLetter, values: Mapping[str, str], *, now_ms: int) -> BadField | None:
    """What is still wrong once these fields have these values; None where nothing is. The row is changed, not saved.

    Raises UnknownField.
    """
    for name in values:
        if name not in MENDABLE:
            raise UnknownField(f"Unknown field {name!r}. Fields of an event: {', '.join(MENDABLE)}.")
    event = {name: value for name, value in row.event.items() if name not in values}
    told = _understood(event_rows.Door(source, now_ms), {**_as_told(source, event), **values})
    if _LISTENER in event and _LISTENER not in told:
        told[_LISTENER] = event[_LISTENER]
    if since := max(told.get(_KEYS_SINCE, ""), event.get(_KEYS_SINCE, "")):  # keys of two periods fit no event
        told[_KEYS_SINCE] = since
    row.event = told
    try:
        _again(source, row.event, now_ms)
    except BadField as error:
        given = values.get(error.field)
        if given is not None and error.reason == "missing":  # it was not even of its type
            error = BadField(error.field, "wrong")
        row.field, row.reason = error.field, error.reason
        row.value = ABSENT if given is None else shape(given)
        return error
    row.field = row.value = row.reason = ""
    return None


def replay(
    source: StreamEventsSource, letters: Iterable[DeadLetter], *, now_ms: int, dry_run: bool = False
) -> Replayed:
    """Tells letters again: those that are well-formed now are stored and deleted here, the others stay."""
    told: list[Told] = []
    done: list[int] = []
    ignored = refused = too_old = 0
    for row in letters:
        try:
            one = _again(source, row.event, now_ms)
        except BadField as error:
            if error.reason == "too_old":
                too_old += 1
            else:
                refused += 1
            continue
        done.append(row.pk)
        if one is None:
            ignored += 1
        else:
            told.append(one)
    accepted = len(event_rows.unknown(told)) if dry_run else _store(source.name, told, done, now_ms)
    return Replayed(
        accepted=accepted, duplicates=len(told) - accepted, ignored=ignored, too_old=too_old, refused=refused
    )


def _store(source: str, told: Sequence[Told], done: Sequence[int], now_ms: int) -> int:
    """Stored first, then deleted: a crash between the two tells them twice, which is once."""
    stored = event_rows.store(source, told, Counter({"replayed": len(told)}), now_ms=now_ms)
    for start in range(0, len(done), PORTION):
        DeadLetter.objects.filter(pk__in=done[start : start + PORTION]).delete()
    return stored


# What is kept of an event --------------------------------------------------------------------------


def _decoded(sent: bytes) -> Any:
    try:
        return msgspec.json.decode(sent)
    except (msgspec.DecodeError, RecursionError):
        return sent.decode("utf-8", "replace")


def _understood(door: event_rows.Door, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The well-formed fields, without address, agent, path and session id."""
    given = {name: value for name in FIELDS if (value := _well_formed(name, fields.get(name))) is not None}
    kept = {name: given[name] for name in _PLAIN if name in given}
    if _METHOD.fullmatch(given.get("method", "")):
        kept["method"] = given["method"]
    if given.get("completion") in ("", "OK"):
        kept["completion"] = given["completion"]
    if _RANGE.fullmatch(given.get("range", "")):
        kept["range"] = given["range"]
    for name in _STAMPS:
        if name in given and (at_ms := _instant_or_none(given[name], name)) is not None:
            kept[name] = from_ms(at_ms).isoformat()
    ended_ms = _instant_or_none(given.get("time_end"), "time_end")
    ended_ms = door.secrets.started_ms if ended_ms is None else ended_ms
    kept.update(_part(door.source, given))
    session = _session(door, given, fields, ended_ms)
    kept.update(session)
    if "ip" in given or session.get("session") != fields.get("session"):
        kept[_KEYS_SINCE] = from_ms(door.keys_since_ms(ended_ms)).isoformat()
    if "ip" in given:
        try:
            event = event_of({**_STAND_INS, "origin": "hls", **{name: given[name] for name in _WHOSE if name in given}})
            mark, identity_known = door.mark(event, kept.get("stream", ""), ended_ms)
        except BadField:
            return kept
        kept[_LISTENER] = {**asdict(mark), "previous": None, "periods": (), "identity_known": identity_known}
    return kept


def _well_formed(name: str, value: Any) -> Any:
    """The value as an event holds it; None for one that is not of its type."""
    if value is None:
        return None
    try:
        return msgspec.convert(value, _TYPES[name], strict=False)
    except (msgspec.ValidationError, RecursionError):
        return None


def _instant_or_none(stamp: Any, name: str) -> int | None:
    try:
        return None if stamp is None else instant_of(stamp, name)
    except BadField:
        return None


def _part(source: StreamEventsSource, given: Mapping[str, Any]) -> dict[str, Any]:
    """The path as what it leads to; {} where it leads to no stream."""
    if "path" not in given:
        return {}
    for origin in [given["origin"]] if "origin" in given else ["hls", "icecast"]:
        event = event_of({**_STAND_INS, "origin": origin, "path": given["path"]})
        try:
            part, _ = source.place(event)
        except BadField:
            return {}
        if part is not None:
            if not _is_plain(part.rendition):
                return {}
            return {"stream": part.stream, "rendition": part.rendition, "number": part.number}
    return {}


def _is_plain(rendition: str) -> bool:
    """Has a segment's path no more in it than the name of its rendition? A token may stand in it."""
    before, _, after = rendition.partition("#")
    is_named = bool(hls.rendition_name(rendition)) or not before.strip("-_./ ")
    return is_named and len(before) <= LONGEST_NAME and len(after) <= LONGEST_ENDING


def _session(
    door: event_rows.Door, given: Mapping[str, Any], fields: Mapping[str, Any], ended_ms: int
) -> dict[str, int]:
    if isinstance(fields.get("session"), int) and "session_id" not in given:
        return {"session": fields["session"]}  # hashed already
    event = event_of({**_STAND_INS, "origin": "hls", **{n: given[n] for n in ("path", "session_id") if n in given}})
    hashed = door.session(door.source.session_of(event), ended_ms)
    return {} if hashed is None else {"session": hashed}


# Telling it again ----------------------------------------------------------------------------------


def _as_told(source: StreamEventsSource, event: Mapping[str, Any]) -> dict[str, Any]:
    """A letter's event with its path again; its listener stays a key."""
    told = {name: value for name, value in event.items() if name in FIELDS or name == "session"}
    if "stream" in event:
        path = source.path_of(event["stream"], event["rendition"], event["number"])
        if path:
            told["path"] = path
    return told


def _again(source: StreamEventsSource, event: Mapping[str, Any], now_ms: int) -> Told | None:
    """The letter's event as a well-formed one; None where it is no listening. Raises BadField."""
    told = _as_told(source, event)
    if _LISTENER not in event:
        raise BadField("ip", "missing")
    session = told.pop("session", None)
    since = event.get(_KEYS_SINCE)
    oldest_ms = max(oldest_known_ms(now_ms), to_ms(dt.datetime.fromisoformat(since)) if since else 0)
    request, _ = source.request(event_of({**told, "ip": _STAND_INS["ip"]}), now_ms=now_ms, oldest_ms=oldest_ms)
    if request is None:
        return None
    whose = dict(event[_LISTENER])
    identity_known = whose.pop("identity_known")
    mark = ListenerMark(**{**whose, "periods": ()})
    return Told(
        key=event_rows.event_key(source.name, request, mark.listener, session),
        request=request,
        who=mark,
        identity_known=identity_known,
        session=session,
    )


def _key(says: bytes, ordinal: int) -> int:
    digest = hashlib.blake2b(says + b"\0%d" % ordinal, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
