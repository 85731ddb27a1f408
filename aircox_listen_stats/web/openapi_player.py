"""The players' part of the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec

from ..pipeline.players import VISIT_SECONDS
from .player_events import MAX_BODY_BYTES, Told

PLAYERS = "/api/v1/stats/player-events/"

REF = "#/components/schemas/{name}"

_ERROR = {"application/json": {"schema": {"$ref": REF.format(name="Error")}}}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_UNWANTED = "Nothing: the visitor says Do Not Track (`DNT: 1`) or Global Privacy Control (`Sec-GPC: 1`)."


def _refused(description: str, *, later: bool = False) -> dict[str, Any]:
    return {"description": description, "content": _ERROR} | ({"headers": _RETRY} if later else {})


_COMMON: dict[str, dict[str, Any]] = {
    "429": _refused("Too many requests of one address, or events of one page or of one address and agent.", later=True),
    "503": _refused("The database cannot be used. Send the same again: it counts once.", later=True),
}

PATHS: dict[str, dict[str, Any]] = {
    PLAYERS: {
        "get": {
            "operationId": "beginPlayerVisit",
            "summary": "Begin a visit",
            "description": "For a page that is about to play: a random number, signed, that its events name.",
            "tags": ["player events"],
            "security": [],
            "responses": {
                "200": {
                    "description": "A visit.",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "visit": {"type": "string"},
                                    "expires_in": {
                                        "type": "integer",
                                        "description": "Seconds.",
                                        "examples": [VISIT_SECONDS],
                                    },
                                },
                                "required": ["visit", "expires_in"],
                            }
                        }
                    },
                },
                "204": {"description": _UNWANTED},
                "403": _refused("The page is of an origin that is not allowed."),
                "404": _refused("The station hears no web players."),
                **_COMMON,
            },
        },
        "post": {
            "operationId": "tellPlayerEvent",
            "summary": "Tell what a player does",
            "description": (
                "One event. It is dated by the server's clock, less `age_ms` within limits, and taken once: a sequence "
                "that the visit has told before changes nothing. `text/plain` is what `navigator.sendBeacon` sends."
            ),
            "tags": ["player events"],
            "security": [],
            "requestBody": {
                "required": True,
                "content": {
                    kind: {"schema": {"$ref": REF.format(name="PlayerEvent")}}
                    for kind in ("application/json", "text/plain")
                },
            },
            "responses": {
                "204": {"description": f"Kept. Or: {_UNWANTED[0].lower()}{_UNWANTED[1:]}"},
                "400": _refused("The body is no event."),
                "403": _refused("The visit is none, or is over; or the page is of an origin that is not allowed."),
                "404": _refused("No stream and no sound of the station has that address; or it hears no web players."),
                "413": _refused(f"The body is longer than {MAX_BODY_BYTES} bytes."),
                "415": _refused("The body is of another type."),
                **_COMMON,
            },
        },
    }
}

_WORDS = {
    "visit": "What GET gave.",
    "sequence": "The page's own count of its events of this visit, from 0.",
    "src": "What the player plays: the address of a stream or a recording. Its query is ignored.",
    "position_ms": "Where in the recording; before a seek, tell a heartbeat with where it was.",
    "duration_ms": "How long the recording is.",
    "age_ms": "How long ago it was, by a clock that only goes forward.",
}


def _schemas() -> dict[str, Any]:
    _, found = msgspec.json.schema_components([Told], ref_template=REF)
    event = found.pop("Told") | {"title": "PlayerEvent"}
    for name, words in _WORDS.items():
        event["properties"][name]["description"] = words
    return {"PlayerEvent": event, **found}


SCHEMAS = _schemas()
