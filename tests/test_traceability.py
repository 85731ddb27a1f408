"""docs/traceability.md names what exists: every feature once, each with code that is there and a test that is there."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_documents import ROOT, rows

PAGE = ROOT / "docs" / "traceability.md"
APP = ROOT / "aircox_listen_stats"

FEATURES = {"S1": 24, "S2": 15, "S3": 14, "S4": 13, "S5": 10}
"""How many features each of the five systems has."""

ANSWERS = ("kept", "otherwise", "not done", "missing")
REFERENCE = re.compile(r"`([\w/]+\.py)::([\w.:]+)`")
"""A file and a name in it: ``Class.method`` in the app, ``Class::test`` in tests, as pytest has it."""


def features() -> dict[str, list[str]]:
    """The cells of each feature's row, by its number."""
    return {cells[0]: cells[1:] for cells in rows(PAGE.read_text()) if re.fullmatch(r"S\d\.\d+", cells[0])}


def named() -> Iterator[tuple[Path, str]]:
    """Every file and name that the page refers to."""
    for path, name in REFERENCE.findall(PAGE.read_text()):
        yield (ROOT if path.startswith("tests/") else APP) / path, name.replace("::", ".")


@functools.cache
def names_of(path: Path) -> frozenset[str]:
    """The functions, classes, methods and constants of a module, methods as ``Class.method``."""
    return frozenset(_names(ast.parse(path.read_text()).body))


def _names(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield within + node.name
        elif isinstance(node, ast.ClassDef):
            yield within + node.name
            yield from _names(node.body, f"{within}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (within + one.id for one in ast.walk(target) if isinstance(one, ast.Name))


def test_every_feature_stands_there_once() -> None:
    listed = [cells[0] for cells in rows(PAGE.read_text()) if re.match(r"S\d", cells[0])]
    assert sorted(listed) == sorted(
        f"{system}.{number}" for system, most in FEATURES.items() for number in range(1, most + 1)
    )


def test_every_file_and_name_exists() -> None:
    found = list(named())
    assert len(found) > 200
    missing = [
        f"{path.relative_to(ROOT)}::{name}" for path, name in found if not path.is_file() or name not in names_of(path)
    ]
    assert missing == []


def test_whatever_is_written_as_code_with_a_colon_is_such_a_reference() -> None:
    """A reference that is spelled in another way would be checked by nobody."""
    written = re.findall(r"`([^`]*::[^`]*)`", PAGE.read_text())
    assert [one for one in written if not REFERENCE.fullmatch(f"`{one}`")] == []


@pytest.mark.parametrize(
    "number", [f"{system}.{one}" for system, most in FEATURES.items() for one in range(1, most + 1)]
)
def test_each_feature_says_what_we_do_and_shows_it(number: str) -> None:
    there, ours, where, shown_by = features()[number]
    answers = re.findall(r"\*\*([^*]+)\*\*", ours)
    assert answers, "it does not say what we do"
    assert set(answers) <= set(ANSWERS)
    assert there
    if answers == ["missing"]:
        return
    code, tests = REFERENCE.findall(where), REFERENCE.findall(shown_by)
    assert code, "it names no code"
    assert tests, "it names no test"
    assert [path for path, _ in code if path.startswith("tests/")] == []
    assert [
        f"{path}::{name}"
        for path, name in tests
        if not (path.startswith("tests/") and re.search(r"(^|::)test_\w+$", name))
    ] == []
