"""Settings of the processes of a whole station: the suite's, with the station that the test describes."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

AIRCOX_LISTEN_STATS = json.loads(os.environ["LISTEN_STATS_TEST_STATION"])
MEDIA_ROOT = os.environ["LISTEN_STATS_TEST_MEDIA"]
AIRCOX_PROGRAMS_DIR = os.path.join(MEDIA_ROOT, "programs")
AIRCOX_CONTROLLERS_WORKING_DIR = os.environ["LISTEN_STATS_TEST_STATIONS"]
PROJECT_ROOT = MEDIA_ROOT
TIME_ZONE = "UTC"
