"""After ``kill -9`` at any moment the next run ends with the same tables as one that was never killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest
from aircox.models import Diffusion, Episode, Program, Station
from django.db import connection

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.models import Airing, Audience, Connection, Coverage, Secret, Session

from .conftest import at

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SEED = 3
RUN_SECONDS = 120

COLUMNS = {
    Connection: "source key stream__slug listener started seen ended told app session__started",
    Session: "stream__slug listener started ended played_ms parts is_open is_long app",
    Airing: "station_id layer key started ended start_basis end_basis title is_running notes",
    Audience: "airing__key rule_set listening_ms sessions listeners peak peak_at at_start at_end joined left stayed"
    " curve retained coverage settled version",
    Coverage: "stream__slug started ended",
}
"""What must be the same: all but row ids, and when a figure was computed."""


def tables() -> dict[str, list[str]]:
    return {
        model.__name__: sorted(map(str, model.objects.values_list(*columns.split())))
        for model, columns in COLUMNS.items()
    }


def forget_everything() -> None:
    """Empties our tables but for the secrets: both runs know the listeners by the same keys."""
    from django.apps import apps

    for model in apps.get_app_config("aircox_listen_stats").get_models():
        if model is not Secret:
            model.objects.all().delete()


def start(environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    connection.close()
    return subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.scripted_collector", str(SEED), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_to_the_end(environment: dict[str, str]) -> None:
    process = start(environment)
    output, errors = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, errors[-3000:]
    assert output.split() == ["active", "done"]


@pytest.fixture
def programme(fixed_secrets: None) -> None:
    """Two diffusions that lie over the listening of the script."""
    station = Station.objects.create(name="Campus", slug="campus", default=True, active=True)
    program = Program.objects.create(station=station, title="Morning", slug="morning")
    for number, start_s in enumerate((0, 900)):
        episode = Episode.objects.create(title=f"Episode {number}", slug=f"episode-{number}", parent=program)
        Diffusion.objects.create(
            program=program,
            episode=episode,
            type=Diffusion.TYPE_ON_AIR,
            start=from_ms(at(start_s)),
            end=from_ms(at(start_s + 900)),
        )


def test_killed_at_any_moment_it_ends_with_the_same_tables(programme: None, child_environment: dict[str, str]) -> None:
    run_to_the_end(child_environment)
    expected = tables()
    assert all(expected.values()), {name: len(rows) for name, rows in expected.items()}
    assert sum(row.sessions for row in Audience.objects.all()) > 10
    forget_everything()

    for moment in (
        "timeline.mark_stale:1",
        "stitching._update:3",
        "stitching.restitch:40",
        "ingest.mark_stale_windows:70",
        "rollup._upsert:2",
    ):
        process = start(child_environment, moment)
        _, errors = process.communicate(timeout=RUN_SECONDS)
        assert process.returncode == -signal.SIGKILL, f"{moment} was never reached: {errors[-2000:]}"
    dice = random.Random()
    for _ in range(3):
        process = start(child_environment)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0, 0.6))
        process.kill()
        process.communicate(timeout=RUN_SECONDS)
    run_to_the_end(child_environment)
    assert tables() == expected
