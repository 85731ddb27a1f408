"""What is built carries what the app needs at a station, and nothing of the workshop."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import compile_messages, stage_static

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "aircox_listen_stats"
CARRIED = ("templates", "static", "locale", "migrations", "management", "templatetags")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_every_file_of_the_app(wheel_names: set[str]):
    expected = {
        str(path.relative_to(ROOT))
        for name in CARRIED
        for path in (APP / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected
    assert expected - wheel_names == set()
    assert "aircox_listen_stats/py.typed" in wheel_names


def test_the_wheel_carries_the_chart_library_with_its_licence(wheel_names: set[str]):
    folder = "aircox_listen_stats/static/aircox_listen_stats/vendor/uplot"
    assert {f"{folder}/uPlot.esm.js", f"{folder}/uPlot.min.css", f"{folder}/LICENSE"} <= wheel_names


def test_the_wheel_carries_nothing_else(wheel_names: set[str]):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"aircox_listen_stats"}


def test_every_translation_is_compiled(wheel_names: set[str]):
    sources = [path for folder in compile_messages.LOCALE_FOLDERS for path in folder.glob("*/LC_MESSAGES/*.po")]
    carried = {str(path.with_suffix(".mo").relative_to(ROOT)) for path in sources if APP in path.parents}
    assert carried - wheel_names == set()


def test_a_translation_compiles_without_gettext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import gettext

    folder = tmp_path / "nl" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    folder.joinpath("django.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "listener"\nmsgstr "luisteraar"\n'
    )
    monkeypatch.setattr(compile_messages, "LOCALE_FOLDERS", (tmp_path,))
    (written,) = compile_messages.compile_all()
    with written.open("rb") as stream:
        assert gettext.GNUTranslations(stream).gettext("listener") == "luisteraar"
    assert compile_messages.compile_all() == []


def test_a_newer_pin_of_the_chart_library_is_staged_anew(monkeypatch: pytest.MonkeyPatch):
    assert stage_static.is_staged()
    monkeypatch.setattr(stage_static, "_pinned", lambda package: "999.0.0")
    assert not stage_static.is_staged()


def test_the_lock_files_name_no_registry():
    for name in ("requirements-lock.txt", "requirements-django42.txt"):
        assert "://" not in (ROOT / name).read_text()
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text()
