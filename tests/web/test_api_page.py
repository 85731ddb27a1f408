"""The page of the endpoints tells what the document tells."""

from __future__ import annotations

import pytest
from django.urls import reverse

from aircox_listen_stats.web import api_page, openapi

DOCUMENT = openapi.document("/audience")


def test_every_operation_of_the_document_is_there_with_all_that_it_answers():
    told = {(one.method.lower(), one.path.removeprefix("/audience")): one for one in api_page.operations(DOCUMENT)}
    documented = {(method, path): found for path, item in DOCUMENT["paths"].items() for method, found in item.items()}
    assert told.keys() == documented.keys()
    for key, one in told.items():
        assert {status for status, _ in one.answers} == documented[key]["responses"].keys()
        assert len(one.parameters) == len(documented[key].get("parameters", ()))


def test_a_body_tells_its_fields_what_they_may_be_and_which_are_needed():
    [ingest] = [one for one in api_page.operations(DOCUMENT) if one.name == "ingestStreamEvents"]
    assert ingest.needs_token
    assert ingest.body_is_list
    fields = {field.name: field for field in ingest.body}
    assert fields["origin"].is_required
    assert fields["origin"].kind == '"hls" or "icecast"'
    assert fields["bytes_sent"].kind == "integer or null"
    assert not fields["bytes_sent"].is_required


def test_forms_are_told_in_words_whatever_the_schema_is_like():
    schemas = {"Deep": {"$ref": "#/components/schemas/Flat"}, "Flat": {"type": ["string", "null"]}}
    document = {
        "servers": [{"url": "/"}],
        "components": {"schemas": schemas},
        "paths": {
            "/x/": {
                "get": {
                    "operationId": "x",
                    "parameters": [
                        {"name": "a", "schema": {"$ref": "#/components/schemas/Deep"}},
                        {"name": "b", "schema": True},
                        {"name": "c", "schema": {"anyOf": [{"type": "integer"}, {"type": "integer"}, True]}},
                    ],
                    "responses": {"204": {}},
                }
            }
        },
    }
    [one] = api_page.operations(document)
    assert [field.kind for field in one.parameters] == ["string or null", "", "integer"]
    assert (one.path, one.answers, one.body) == ("/x/", (("204", ""),), ())


@pytest.mark.django_db
def test_the_page_is_for_people_with_access_and_links_the_document(admin_client, client):
    page = admin_client.get(reverse("listen_stats:api"))
    assert page.status_code == 200
    text = page.content.decode()
    assert reverse("listen_stats:openapi") in text
    assert f"POST {reverse('listen_stats:ingest_stream_events')}" in text
    assert client.get(reverse("listen_stats:api")).status_code in (302, 403)
    assert reverse("listen_stats:api") in admin_client.get(reverse("listen_stats:status")).content.decode()
