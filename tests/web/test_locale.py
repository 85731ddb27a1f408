"""The translations are whole and fit what they translate."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.pofile import read_po
from django.utils.translation.template import templatize

import aircox_listen_stats
from tools import compile_messages

ROOT = Path(aircox_listen_stats.__file__).parent
SITE = ROOT.parent / "example_project"
CATALOGUES = sorted(ROOT.glob("locale/*/LC_MESSAGES/django.po"))
KEYWORDS = {**DEFAULT_KEYWORDS, "gettext_lazy": None, "ngettext_lazy": (1, 2)}
COMMENT = re.compile(r"{% comment %}.*?{% endcomment %}", re.DOTALL)
PLACES = re.compile(r"%\((\w+)\)[sd]|%%")


def sources(root):
    for path in sorted([*root.rglob("*.html"), *root.glob("templates/**/*.txt")]):
        # What is no text becomes words of X, on lines with any indentation. A comment would become
        # one of Python's, and the lines after it would be read as a part of that.
        words = templatize(COMMENT.sub("", path.read_text()), origin=str(path)).splitlines()
        yield path, " ".join(line.strip() for line in words).encode()
    for path in sorted(root.rglob("*.py")):
        yield path, path.read_bytes()


def messages(root: Path = ROOT) -> dict[str, Path]:
    """Every text that the app marks for translation, and where."""
    found = {}
    for path, source in sources(root):
        for _, text, _, _ in extract("python", io.BytesIO(source), keywords=KEYWORDS):
            found[text if isinstance(text, str) else text[0]] = path
    return found


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.parent.parent.name)
def test_every_text_is_translated_with_its_places(catalogue):
    read = {
        one.id if isinstance(one.id, str) else one.id[0]: one for one in read_po(io.BytesIO(catalogue.read_bytes()))
    }
    known = messages()
    assert len(known) > 200
    lacking = {text: path.name for text, path in known.items() if text not in read}
    assert not lacking, "run django-admin makemessages in the package"
    for text in known:
        strings = read[text].string
        for string in [strings] if isinstance(strings, str) else strings:
            assert string, f"{text!r} has no translation"
            ids = read[text].id
            wanted = {place for one in ([ids] if isinstance(ids, str) else ids) for place in PLACES.findall(one)}
            assert set(PLACES.findall(string)) <= wanted, string


def test_the_pretend_station_speaks_the_language_of_its_visitor_too():
    """Its own site shows the widget and the player: English beside French would look like our mistake."""
    read, of_app = (
        {
            one.id
            for path in root.glob("locale/fr/**/*.po")
            for one in read_po(io.BytesIO(path.read_bytes()))
            if one.string
        }
        for root in (SITE, ROOT)
    )
    texts = messages(SITE)
    assert len(texts) > 20
    assert set(texts) - read - of_app == set()
    assert not (read & of_app) - {""}, "said by the app already"


def test_catalogues_are_compiled_without_the_gettext_programs():
    compile_messages.compile_all()
    assert CATALOGUES
    assert all(path.with_suffix(".mo").exists() for path in CATALOGUES)
