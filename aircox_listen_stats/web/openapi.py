"""The OpenAPI 3.1 document of the endpoints for programs.

To add paths: write a module with ``PATHS``, a mapping of path -> path item,
and ``SCHEMAS``, a mapping of name -> JSON Schema (``msgspec.json.schema_components``
makes it of a Struct), and name the module in :data:`GROUPS`. Paths begin below
the prefix under which the station includes our URLs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from .. import __version__
from . import openapi_player, openapi_stream_events

PATH = "api/v1/openapi.json"
"""Below the same prefix."""

TOKEN = "token"
"""The name of the security scheme of whoever has a token; ``"security": [{TOKEN: []}]``."""


class Group(Protocol):
    """A module of paths."""

    PATHS: Mapping[str, Mapping[str, Any]]
    SCHEMAS: Mapping[str, Any]


GROUPS: tuple[Group, ...] = (openapi_stream_events, openapi_player)


def document(prefix: str) -> dict[str, Any]:
    """The document for a station that includes our URLs under ``prefix``, such as ``/audience``."""
    schemas = {
        "Error": {
            "type": "object",
            "properties": {"error": {"type": "string", "description": "What was wrong, and what to do."}},
            "required": ["error"],
        },
    }
    paths: dict[str, Any] = {}
    for group in GROUPS:
        paths.update(group.PATHS)
        schemas.update(group.SCHEMAS)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "aircox-listen-stats",
            "version": __version__,
            "description": "What programs tell of listening, and read back.",
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                TOKEN: {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Token` and a space, then a token that `listen_stats_token create` has shown.",
                }
            },
        },
    }


def prefix() -> str:
    """The prefix under which this station includes our URLs."""
    return reverse("listen_stats:openapi").removesuffix(f"/{PATH}")


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The document, for everybody: it tells of no station and of nobody."""
    response = HttpResponse(msgspec.json.encode(document(prefix())), content_type="application/json")
    response["Cache-Control"] = "public, max-age=3600"
    response["Access-Control-Allow-Origin"] = "*"
    return response


openapi.login_required = False  # type: ignore[attr-defined]
