"""The OpenAPI document is true: schemathesis sends what it allows and what it forbids, and finds no lie."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
from django.urls import get_resolver, reverse

from aircox_listen_stats.pipeline import tokens
from aircox_listen_stats.web import openapi, openapi_stream_events, stream_events
from example_project.wsgi import application

EXAMPLES = {schemathesis.GenerationMode.POSITIVE: 25, schemathesis.GenerationMode.NEGATIVE: 10}
"""Of each operation, what is allowed and what is forbidden: some seconds. The latter is found slowly."""

SETTINGS: dict[str, Any] = {
    "SOURCES": {"events": {"backend": "stream_events", "target_seconds": 4}},
    "STREAMS": {
        "live": {"source": "events", "station": 1, "mount": "/live.mp3"},
        "live-hls": {"source": "events", "station": 1, "mount": "/hls/live.m3u8"},
    },
    "INGEST": {"requests_per_minute": 1_000_000},
}


@pytest.fixture
def station(settings: Any, db: None) -> str:
    """A station that takes stream events, and a token of all scopes."""
    settings.AIRCOX_LISTEN_STATS = SETTINGS
    stream_events.token_pace.forget()
    return tokens.create(name="fuzz", source="events", scopes=tokens.SCOPES, now_ms=1)[1]


def document() -> dict[str, Any]:
    response = Client().get(reverse("listen_stats:openapi"))
    assert response.status_code == 200
    return response.json()


def test_the_document_is_openapi_3_1_and_for_everybody(station: str) -> None:
    told = document()
    assert told["openapi"].startswith("3.1.")
    assert told["servers"] == [{"url": "/audience"}]
    assert Client().get(reverse("listen_stats:openapi"))["Access-Control-Allow-Origin"] == "*"
    assert station not in str(told)


def test_every_path_leads_to_a_view() -> None:
    told = set(openapi.document("/audience")["paths"])
    assert {openapi_stream_events.INGEST, openapi_stream_events.READ} <= told
    assert told <= {f"/{path}" for path in _routes()}


def _routes() -> list[str]:
    (included,) = (one for one in get_resolver().url_patterns if getattr(one, "app_name", "") == "listen_stats")
    return [str(one.pattern) for one in included.url_patterns]


def test_every_reference_leads_somewhere() -> None:
    told = openapi.document("")
    schemas = told["components"]["schemas"]
    found = list(_references(told))
    assert len(found) > 10
    assert {one.rpartition("/")[2] for one in found} <= set(schemas)


def _references(part: Any) -> Any:
    if isinstance(part, dict):
        yield from [part["$ref"]] if "$ref" in part else []
        part = list(part.values())
    for one in part if isinstance(part, list) else []:
        yield from _references(one)


OPERATIONS = [
    (path, method.upper())
    for path, item in openapi.document("")["paths"].items()
    for method, operation in item.items()
    if "parameters" in operation or "requestBody" in operation
]
"""Those that can be called in more than one way."""


@pytest.fixture
def one_connection() -> Any:
    """The application keeps the test's database connection open, as Django's own client has it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def api(station: str, one_connection: None) -> Any:
    """The document as schemathesis reads it, from the application itself."""
    schema = schemathesis.openapi.from_wsgi(reverse("listen_stats:openapi"), application)
    schema.config.generation.update(
        modes=list(schemathesis.GenerationMode), deterministic=True, with_security_parameters=False
    )
    return schema


@pytest.mark.parametrize("mode", schemathesis.GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_schemathesis_finds_nothing(
    api: Any, station: str, path: str, method: str, mode: schemathesis.GenerationMode
) -> None:
    """Answers have the statuses, types and schemas that the document tells; what it forbids is refused."""
    called = []

    @hypothesis.settings(
        max_examples=EXAMPLES[mode], deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(api[path][method].as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case) -> None:
        called.append(case.call_and_validate(headers={"Authorization": f"Token {station}"}).status_code)

    call()
    assert len(called) >= EXAMPLES[mode] // 2
