"""The commands of the repository do what docs/development.md says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_django
from tools import check_docs, make_environment, run_benchmarks, run_tests

ROOT = Path(__file__).resolve().parents[2]
PROMISED = ("setup", "demo", "demo-icecast", "test", "lint", "bench", "shots", "docs", "clean")


def test_make_alone_lists_every_target_with_a_line():
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in PROMISED:
        assert re.search(rf"^  make {name} +\S.+$", listed, re.MULTILINE), name


def test_the_development_document_explains_every_target():
    text = (ROOT / "docs" / "development.md").read_text()
    targets = re.findall(r"^([a-z][a-z-]*):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [name for name in targets if f"`make {name}`" not in text and name != "help"] == []


def test_the_development_document_gives_a_reason_for_every_dependency():
    import json
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=]", one)[0] for one in wanted}
    npm = json.loads((ROOT / "package.json").read_text())
    names |= {*npm["dependencies"], *npm["devDependencies"]}
    text = (ROOT / "docs" / "development.md").read_text()
    assert sorted(name for name in names if f"`{name}`" not in text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](nowhere.md)", "there is no 'nowhere.md'"),
        ("[a](#nothing)\n\n# Something", "no heading makes the anchor 'nothing'"),
        ("```\nx\n```", "names no language"),
        ("```python\nx = (\n```", "python block"),
        ("```json\n{,}\n```", "json block"),
        ("```toml\nx = \n```", "toml block"),
        ("```xml\n<a><b></a>\n```", "xml block"),
        ("```bash\nif true\n```", "shell block"),
        ("run `manage.py listen_stats_sing`", "the command 'listen_stats_sing'"),
        ("run `make coffee`", "'make coffee'"),
    ],
)
def test_a_fault_in_a_document_is_found(text: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "Makefile").write_text("test:\n")
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    document = tmp_path / "page.md"
    document.write_text(text)
    (found,) = check_docs.faults(document)
    assert fault in found


def test_a_sound_document_has_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "Makefile").write_text("test:\n")
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    document = tmp_path / "page.md"
    document.write_text(
        "# On air, now\n\n[here](#on-air-now) [there](other.md) `make test`\n\n"
        "```python\nx = 1\n```\n\n```xml\n<a/><b/>\n```\n"
    )
    (tmp_path / "other.md").write_text("")
    assert list(check_docs.faults(document)) == []


@pytest.mark.parametrize(
    ("line", "closing"),
    [
        ("12 passed in 3.40s", "12 passed in 3.40s"),
        (
            "=== 1 failed, 11 passed, 2 warnings in 75.01s (0:01:15) ===",
            "1 failed, 11 passed, 2 warnings in 75.01s (0:01:15)",
        ),
        ("no tests ran", None),
    ],
)
def test_pytests_closing_line_is_recognised(line: str, closing: str | None):
    matched = run_tests.CLOSING_LINE.match(line)
    assert (matched[1] if matched else None) == closing


def test_a_leg_that_fails_makes_the_run_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    good = run_tests.Leg(name="good", command=[sys.executable, "-c", "print('3 passed in 0.10s')"])
    bad = run_tests.Leg(name="bad", command=[sys.executable, "-c", "raise SystemExit(4)"])
    monkeypatch.setattr(run_tests, "lint_legs", lambda: [good, bad])
    assert run_tests.main(["--lint-only"]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"good +passed .* 3 passed in 0.10s", shown)
    assert re.search(r"bad +FAILED \(4\)", shown)
    assert "1 of 2 legs passed" in shown


def test_the_second_lane_runs_beside_the_first_and_shows_its_legs_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    wait = "import pathlib, time; mark = pathlib.Path({!r})\n"
    until = "while not mark.exists(): time.sleep(0.01)\n"
    mark = str(tmp_path / "mark")
    first = [sys.executable, "-c", wait.format(mark) + until + "print('1 passed in 1.00s')"]
    second = [sys.executable, "-c", wait.format(mark) + "mark.touch(); print('2 passed in 1.00s'); raise SystemExit(1)"]
    lanes = [run_tests.Leg(name="first", command=first)], [run_tests.Leg(name="second", command=second)] * 2
    monkeypatch.setattr(run_tests, "suite_lanes", lambda arguments: lanes)
    monkeypatch.setattr(run_tests, "lint_legs", list)
    monkeypatch.setattr("tests.parts.postgres.stop", lambda: None)  # that of this very run
    assert run_tests.main([]) == 2
    shown = capsys.readouterr().out
    assert shown.count("── second ──\n2 passed in 1.00s") == 2
    assert "1 of 3 legs passed" in shown


def test_every_test_is_in_one_half_of_the_suite():
    held = [one for one in (ROOT / "tests").iterdir() if any(one.rglob("test_*.py")) or one.match("test_*.py")]
    assert len(held) > 10
    for one in held:
        halves = [half for half in (run_tests.FIRST_HALF, run_tests.SECOND_HALF) if any(map(one.match, half))]
        assert len(halves) == 1, one.name


def test_the_wrong_django_is_refused():
    require_django("")
    with pytest.raises(pytest.UsageError, match=r"is to prove Django 3\.1"):
        require_django("3.1")


def test_an_unknown_benchmark_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "fanout.py").write_text('if __name__ == "__main__":\n    pass\n')
    (tmp_path / "crowd.py").write_text("")
    monkeypatch.setattr(run_benchmarks, "FOLDER", tmp_path)
    assert run_benchmarks.benchmarks() == ["fanout"]
    with pytest.raises(SystemExit, match=r"Unknown benchmark fanuot\. There are: fanout\."):
        run_benchmarks.main(["fanuot"])


def test_an_old_python_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(make_environment, "OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr(make_environment, "NEWER_PYTHONS", ("python99",))
    with pytest.raises(make_environment.SetupError, match=r"Python 99\.0 or newer is needed.*make setup PYTHON="):
        make_environment.require_python()
