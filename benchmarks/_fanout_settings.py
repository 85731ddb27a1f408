"""The example station, with the channel layer that benchmarks/fanout.py names in the environment."""

from __future__ import annotations

import json
import os
from typing import Any

from example_project.settings import *  # noqa: F403
from example_project.settings import INSTALLED_APPS as EXAMPLE_APPS

DEBUG = False
ALLOWED_HOSTS = ["*"]
# Daphne's app would install Twisted's reactor under uvicorn too.
INSTALLED_APPS = [app for app in EXAMPLE_APPS if app != "daphne"]
CHANNEL_LAYERS: dict[str, Any] = {"default": json.loads(os.environ["FANOUT_LAYER"])}
AIRCOX_LISTEN_STATS: dict[str, Any] = {}
