"""The documents list what the code has: settings, checks, commands and sources, no more and no less."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.management import BaseCommand, load_command_class

from aircox_listen_stats import conf
from aircox_listen_stats.kernel.types import RuleSet
from aircox_listen_stats.sources import registry

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
APP = ROOT / "aircox_listen_stats"

NESTED = {
    "STREAMS": conf.StreamSettings,
    "SOURCES": conf.SourceSettings,
    "LETTERS": conf.LetterSettings,
    "LIVE": conf.LiveSettings,
    "EXCLUDE": conf.ExclusionSettings,
    "INGEST": conf.IngestSettings,
    "PLAYER": conf.PlayerSettings,
    "RULE_SETS": RuleSet,
}
UNNAMED = {"SOURCES": {"options"}, "RULE_SETS": {"name"}}
"""What is no key of its own: a backend's options are the other keys, a rule-set's name is its key."""

MADE_LATER = {"mount": '`"/"` + slug', "title": "the slug"}
"""Defaults that stand for something which is known only at a station."""

WORDS_OF_TYPES = {"str": "str", "int": "int", "float": "float", "bool": "bool", "Path": "`Path`"}


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of each table."""
    for line in text.splitlines():
        if line.startswith("|") and not re.match(r"^[|\s:-]+$", line):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def documented(text: str) -> dict[str, list[str]]:
    """The other cells of each row whose first cell is one name in backticks."""
    return {match[1]: cells[1:] for cells in rows(text) if (match := re.fullmatch(r"`([\w.]+)`", cells[0]))}


def section(text: str, heading: str) -> str:
    """What stands under ``## `HEADING` ``, or before the first heading where it is ''."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    found = {"": parts[0], **{name.strip("`"): body for name, body in zip(parts[1::2], parts[2::2], strict=True)}}
    assert heading in found, f"docs/settings.md has no heading {heading!r}"
    return found[heading]


def shown_default(field: dataclasses.Field[Any], name: str) -> str:
    """How the default is written."""
    if name in MADE_LATER:
        return MADE_LATER[name]
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "required"
    default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    if default is None or isinstance(default, bool):
        return f"`{default}`"
    if isinstance(default, int | float):
        return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
    if isinstance(default, str):
        return f'`"{default}"`'
    return "`[]`" if isinstance(default, tuple) else "`{}`"


def shown_types(field: dataclasses.Field[Any]) -> list[str]:
    """The words that the type's cell must hold."""
    names = [part.split("[")[0].strip() for part in str(field.type).split("|")]
    words = {"Mapping": "dict", "Sequence": "list", **WORDS_OF_TYPES}
    return [words.get(name, "dict") for name in names if name != "None"]


@pytest.mark.parametrize("heading", ["", *NESTED])
def test_every_setting_stands_in_its_table_with_type_and_default(heading: str) -> None:
    kind = NESTED.get(heading, conf.Settings)
    listed = documented(section((DOCS / "settings.md").read_text(), heading))
    fields = {
        (one.name if heading else one.name.upper()): one
        for one in dataclasses.fields(kind)
        if one.name not in UNNAMED.get(heading, ())
    }
    assert set(listed) == set(fields)
    for name, field in fields.items():
        type_cell, default_cell, meaning = listed[name]
        assert default_cell.startswith(shown_default(field, name)), f"{name}: the default is {default_cell}"
        assert [word for word in shown_types(field) if word not in type_cell] == [], f"{name}: {type_cell}"
        assert meaning, f"{name} has no meaning"


def test_every_check_stands_in_checks_md() -> None:
    raised = set(re.findall(r'_id\("([EW]\d{3})"\)', (APP / "checks.py").read_text()))
    assert len(raised) > 10
    listed = documented((DOCS / "checks.md").read_text())
    assert set(listed) == {f"listen_stats.{one}" for one in raised}


def commands() -> Mapping[str, BaseCommand]:
    folder = APP / "management" / "commands"
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return {name: load_command_class("aircox_listen_stats", name) for name in names}


def own_options(command: BaseCommand, name: str) -> set[str]:
    """The options that this command has beside Django's; a positional one by its metavar."""
    django_own = {text for one in BaseCommand().create_parser("", "x")._actions for text in one.option_strings}
    return {
        max(one.option_strings, key=len) if one.option_strings else str(one.metavar)
        for one in command.create_parser("", name)._actions
        if not set(one.option_strings) & django_own
    }


def test_every_command_and_its_options_stand_in_operations_md() -> None:
    text = (DOCS / "operations.md").read_text()
    listed: dict[str, set[str]] = {}
    for cells in rows(text):
        command, option = (re.match(r"`(listen_stats_\w+)`$", cells[0]), re.match(r"`([\w-]+)[^`]*`$", cells[1]))
        if command:
            listed.setdefault(command[1], set()).update({option[1]} if option else ())
    assert listed == {name: own_options(command, name) for name, command in commands().items()}


@pytest.mark.parametrize("name", registry.short_names())
def test_every_source_has_its_page_with_all_its_options(name: str) -> None:
    page = DOCS / "sources" / f"{name}.md"
    assert page.exists(), f"docs/sources/{name}.md is missing"
    text = page.read_text()
    assert f'"backend": "{name}"' in text
    options = getattr(registry.backend(name), "options", {})
    listed = {word for cells in rows(text) for word in re.findall(r"`(\w+)`", cells[0])}
    assert set(options) - listed == set(), "these options are in no table of the page"


def test_the_index_leads_to_every_document() -> None:
    """Of a source's page it is enough that the folder is there: it is named as the source is."""
    index = (DOCS / "README.md").read_text()
    linked = set(re.findall(r"\]\(([^)#]+)\)", index))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"README.md"}
    of_sources = {f"sources/{name}.md" for name in registry.short_names()} if "sources/" in linked else set()
    assert pages - linked - of_sources == set()


def test_the_readme_gives_the_middleware_the_application_and_the_units_that_exist() -> None:
    """The dotted names of the README can be imported."""
    from django.utils.module_loading import import_string

    text = (ROOT / "README.md").read_text()
    assert callable(import_string("aircox_listen_stats.web.callbacks.CallbacksFirst"))
    assert re.search(r'MIDDLEWARE = \["aircox_listen_stats\.web\.callbacks\.CallbacksFirst", \*MIDDLEWARE\]', text)
    assert (APP / "asgi.py").exists()
    assert text.count("aircox_listen_stats.asgi:application") == 1
    written = re.search(r"^AIRCOX_LISTEN_STATS = (\{.*?^\})", text, re.MULTILINE | re.DOTALL)
    assert written is not None
    given = conf.read(eval(written[1]))
    assert registry.build(given).keys() == given.callback_tokens.keys()
