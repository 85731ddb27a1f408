"""The OpenAPI document as a page to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Field", "Operation", "operations"]

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter, or a field of a body."""

    name: str
    kind: str
    is_required: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. ``answers`` are pairs of status and text."""

    name: str
    method: str
    path: str
    summary: str
    paragraphs: tuple[str, ...]
    needs_token: bool
    parameters: tuple[Field, ...]
    body: tuple[Field, ...]
    body_is_list: bool
    answers: tuple[tuple[str, str], ...]


def operations(document: Mapping[str, Any]) -> tuple[Operation, ...]:
    """Every operation of the document, in its order."""
    schemas = document["components"]["schemas"]
    prefix = document["servers"][0]["url"].rstrip("/")
    return tuple(
        _operation(prefix + path, method, item[method], schemas)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    )


def _operation(path: str, method: str, told: Mapping[str, Any], schemas: Mapping[str, Any]) -> Operation:
    contents = told.get("requestBody", {}).get("content", {})
    body = contents.get("application/json", {}).get("schema", {})
    return Operation(
        name=told["operationId"],
        method=method.upper(),
        path=path,
        summary=told.get("summary", ""),
        paragraphs=tuple(one for one in _plain(told.get("description", "")).split("\n\n") if one),
        needs_token=any(told.get("security", ())),
        parameters=tuple(
            Field(
                name=one["name"],
                kind=_kind(one.get("schema", {}), schemas),
                is_required=one.get("required", False),
                text=_plain(one.get("description", "")),
            )
            for one in told.get("parameters", ())
        ),
        body=tuple(_fields(body, schemas)),
        body_is_list=body.get("type") == "array",
        answers=tuple((status, _plain(answer.get("description", ""))) for status, answer in told["responses"].items()),
    )


def _fields(schema: Any, schemas: Mapping[str, Any]) -> Iterator[Field]:
    """The fields of a body, of the events in it where it is a list."""
    found = _resolved(schema, schemas)
    if found.get("type") == "array":
        found = _resolved(found.get("items", {}), schemas)
    required = found.get("required", ())
    for name, value in found.get("properties", {}).items():
        yield Field(
            name=name,
            kind=_kind(value, schemas),
            is_required=name in required,
            text=_plain(_resolved(value, schemas).get("description", "")),
        )


def _resolved(schema: Any, schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that is meant: behind a reference, and the first of several that has a form."""
    if not isinstance(schema, Mapping):
        return {}
    if "$ref" in schema:
        return _resolved(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    for one in schema.get("anyOf", ()):
        if isinstance(one, Mapping) and "$ref" in one:
            return _resolved(one, schemas)
    return schema


def _plain(text: str) -> str:
    """Without the marks that Markdown puts about code."""
    return text.replace("`", "")


def _kind(schema: Any, schemas: Mapping[str, Any]) -> str:
    """In a few words, what a value may be: ``integer``, ``string or null``, ``"hls" or "icecast"``."""
    if not isinstance(schema, Mapping):
        return ""
    if "$ref" in schema:
        return _kind(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    if "enum" in schema:
        return " or ".join(f'"{one}"' for one in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(filter(None, (_kind(one, schemas) for one in schema["anyOf"]))))
    told = schema.get("type", "")
    return " or ".join(told) if isinstance(told, list) else str(told)
