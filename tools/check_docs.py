"""Checks the documents: relative links and anchors lead somewhere, code blocks parse, commands exist."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ROOT / "aircox_listen_stats" / "management" / "commands"
ELSEWHERE = ("http://", "https://", "mailto:", "//")
COMMAND_NAME = re.compile(r"(?:manage\.py|example_project)\s+(listen_stats_[a-z]+)")
MAKE_TARGET = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)


def documents() -> list[Path]:
    """Every Markdown file of the repository that is written for readers."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def faults(document: Path) -> Iterator[str]:
    """What is wrong in the document, each with its line."""
    text = document.read_text()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    name = document.relative_to(ROOT)
    for token in tokens:
        line = (token.map or [0])[0] + 1
        if token.type == "fence":
            fault = fault_of_block(token)
            if fault:
                yield f"{name}:{line}: {fault}"
        for target in links(token):
            fault = fault_of_link(document, target)
            if fault:
                yield f"{name}:{line}: {fault}"
    yield from (f"{name}: {fault}" for fault in faults_of_names(text))


def links(token: Token) -> Iterator[str]:
    """The targets of the links and images in a block of text."""
    for inline in token.children or ():
        target = inline.attrGet("href") if inline.type == "link_open" else inline.attrGet("src")
        if isinstance(target, str) and target and inline.type in ("link_open", "image"):
            yield target


def fault_of_link(document: Path, target: str) -> str:
    """Why the link leads nowhere, or an empty text. Other sites are not asked."""
    if target.startswith(ELSEWHERE):
        return ""
    path, _, anchor = unquote(target).partition("#")
    file = (document.parent / path).resolve() if path else document
    if not file.exists():
        return f"link to {target!r}: there is no {path!r}"
    if anchor and file.suffix == ".md" and anchor not in anchors(file):
        return f"link to {target!r}: no heading makes the anchor {anchor!r}"
    return ""


def anchors(document: Path) -> set[str]:
    """The anchors that headings make, as code forges spell them."""
    found: dict[str, int] = {}
    tokens = MarkdownIt("commonmark").parse(document.read_text())
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", inline.content.lower()).strip().replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{number}" if number else slug for slug, most in found.items() for number in range(most + 1)}


def fault_of_block(token: Token) -> str:
    """Why the code block cannot be right, or an empty text."""
    language = token.info.split()[0] if token.info.strip() else ""
    if not language:
        return "a code block names no language (text is one)"
    check = CHECKS.get(language)
    return check(token.content) if check else ""


def _python(code: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ast.parse(code)
    except (SyntaxError, SyntaxWarning) as error:
        return f"python block: {error}"
    return ""


def _json(code: str) -> str:
    try:
        json.loads(code)
    except ValueError as error:
        return f"json block: {error}"
    return ""


def _toml(code: str) -> str:
    try:
        tomllib.loads(code)
    except tomllib.TOMLDecodeError as error:
        return f"toml block: {error}"
    return ""


def _xml(code: str) -> str:
    try:
        # A snippet may hold several elements side by side.
        ElementTree.fromstring(f"<snippet>{code}</snippet>")
    except ElementTree.ParseError as error:
        return f"xml block: {error}"
    return ""


def _shell(code: str) -> str:
    done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    return f"shell block: {done.stderr.strip()}" if done.returncode else ""


CHECKS: dict[str, Callable[[str], str]] = {
    "python": _python,
    "json": _json,
    "toml": _toml,
    "xml": _xml,
    "bash": _shell,
    "sh": _shell,
    "shell": _shell,
}


def faults_of_names(text: str) -> Iterator[str]:
    """Management commands and make targets that the text names and nobody wrote."""
    for name in sorted(set(COMMAND_NAME.findall(text))):
        if not (COMMANDS / f"{name}.py").exists():
            yield f"names the command {name!r}, which does not exist"
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in sorted(set(MAKE_TARGET.findall(text)) - targets):
        yield f"names the target 'make {name}', which does not exist"


def main() -> int:
    """The number of faults, printed."""
    found = [fault for document in documents() for fault in faults(document)]
    print("\n".join(found) if found else f"{len(documents())} documents: links, code blocks and commands hold.")
    return len(found)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
