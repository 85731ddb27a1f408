"""The stream events' part of the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec

from ..pipeline.stream_events import SHOWN_REFUSALS, Taken
from ..reports.stream_events import EventRow
from ..sources.stream_events import EXPECTED, Event
from .stream_events import DEFAULT_LIMIT, LONGEST_ID, MOST_LIMIT, SLUG

INGEST = "/api/v1/stats/ingest/stream-events/"
READ = "/api/v1/stats/stream-events/"

REF = "#/components/schemas/{name}"


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}


def _errors(**words: str) -> dict[str, Any]:
    """The error answers, by status: ``_400="…"``."""
    return {status.strip("_"): {"description": text, "content": _json(_ref("Error"))} for status, text in words.items()}


_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_CHALLENGE = {"WWW-Authenticate": {"description": "Token.", "schema": {"type": "string"}}}


def _common() -> dict[str, Any]:
    found = _errors(
        _401="No token, or one that is unknown, expired or revoked.",
        _403="The token lacks the scope, or its source is not configured.",
        _429="Too many requests with this token.",
        _503="The database cannot be used. Send the same again: it counts once.",
    )
    found["401"]["headers"] = _CHALLENGE
    found["429"]["headers"] = found["503"]["headers"] = _RETRY
    return found


_INSTANT = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
_TAKEN = "What became of the batch."

PATHS: dict[str, dict[str, Any]] = {
    INGEST: {
        "post": {
            "operationId": "ingestStreamEvents",
            "summary": "Take a batch of stream events",
            "description": (
                "A JSON list, as it is or as gzip. Each event is taken, ignored or refused by itself; a batch or an "
                "event that is sent twice counts once. Sending the same again after any failure does no harm."
            ),
            "tags": ["stream events"],
            "security": [{"token": []}],
            "requestBody": {
                "required": True,
                "content": _json(
                    {
                        "type": "array",
                        "items": {"anyOf": [_ref("Event"), True]},
                        "description": "Events; whatever else stands in the list is refused by itself.",
                    }
                ),
            },
            "responses": {
                "200": {"description": f"{_TAKEN} Nothing was refused.", "content": _json(_ref("Taken"))},
                "207": {
                    "description": (
                        f"{_TAKEN} Some or all of its events were refused: `refusals` lists the first "
                        f"{SHOWN_REFUSALS}, the dead letters keep them. Do not send them again."
                    ),
                    "content": _json(_ref("Taken")),
                },
                **_errors(
                    _400="The body is no JSON list.",
                    _413="Too many bytes, or too many events.",
                    _415="No JSON, or an encoding that is neither gzip nor none.",
                ),
                **_common(),
            },
        }
    },
    READ: {
        "get": {
            "operationId": "readStreamEvents",
            "summary": "Read accepted stream events",
            "description": (
                "In the order of their arrival. Follow `next` until it is null; `cursor` goes on from there later. "
                "An event is shown some seconds after it was accepted."
            ),
            "tags": ["stream events"],
            "security": [{"token": []}],
            "parameters": [
                {
                    "name": "limit",
                    "in": "query",
                    "description": "Events on a page.",
                    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT},
                },
                {
                    "name": "cursor",
                    "in": "query",
                    "description": "Where an earlier page ended.",
                    "schema": {"type": "string", "pattern": f"^[0-9]{{1,{LONGEST_ID}}}$"},
                },
                {
                    "name": "from",
                    "in": "query",
                    "description": "Events that ended at this instant or later; a day begins in the station's zone.",
                    "schema": _INSTANT,
                },
                {
                    "name": "to",
                    "in": "query",
                    "description": "Events that ended before it.",
                    "schema": _INSTANT,
                },
                {
                    "name": "stream",
                    "in": "query",
                    "description": "Events of the stream of this slug.",
                    "schema": {"type": "string", "pattern": SLUG},
                },
            ],
            "responses": {
                "200": {
                    "description": "A page.",
                    "content": _json(
                        {
                            "type": "object",
                            "properties": {
                                "results": {"type": "array", "items": _ref("EventRow")},
                                "next": {"type": ["string", "null"], "format": "uri"},
                                "cursor": {"type": "string"},
                            },
                            "required": ["results", "next", "cursor"],
                        }
                    ),
                },
                **_errors(_400="A parameter that is none."),
                **_common(),
            },
        }
    },
}


def _schemas() -> dict[str, Any]:
    _, found = msgspec.json.schema_components([Event, Taken, EventRow], ref_template=REF)
    for name, words in EXPECTED.items():
        if name:
            found["Event"]["properties"][name]["description"] = words
    shape = "The shape of what was sent: 9 for each digit, a or A for each letter."
    found["Refusal"]["properties"]["value"]["description"] = shape
    return found


SCHEMAS = _schemas()
