"""Settings of the example station.

Where its files live: the folder in the environment variable EXAMPLE_STATION_DIR, else
`var/station/` beside this package. Which aircox it runs on: docs/example-project.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

from example_project import standin
from example_project.demo import environment

AIRCOX_SHAPE = standin.install()

BASE_DIR = Path(__file__).resolve().parent
STATION_DIR = Path(os.environ.get("EXAMPLE_STATION_DIR", BASE_DIR.parent / "var" / "station")).resolve()
STATION_DIR.mkdir(parents=True, exist_ok=True)

# A demonstration on loopback: nothing here is worth a secret.
SECRET_KEY = os.environ.get("EXAMPLE_STATION_SECRET_KEY", "example-station-on-loopback-only")
DEBUG = os.environ.get("EXAMPLE_STATION_DEBUG", "1") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ROOT_URLCONF = "example_project.urls"
ASGI_APPLICATION = "example_project.asgi.application"
WSGI_APPLICATION = "example_project.wsgi.application"

INSTALLED_APPS = [
    "daphne",
    "example_project.apps.ExampleProjectConfig",
    "aircox_listen_stats.apps.ListenStatsConfig",
    *standin.installed_apps(),
    "channels",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "aircox_listen_stats.web.callbacks.CallbacksFirst",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "aircox.middleware.AircoxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.contrib.auth.context_processors.auth",
                "django.template.context_processors.debug",
                "django.template.context_processors.i18n",
                "django.template.context_processors.media",
                "django.template.context_processors.request",
                "django.template.context_processors.static",
                "django.template.context_processors.tz",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATION_DIR / "station.sqlite3",
        # Seconds that a writer waits for another one before it gives up. From Django 5.1 on a
        # transaction takes its turn at its begin: one that reads first would fail, not wait.
        "OPTIONS": {"timeout": 20} | ({"transaction_mode": "IMMEDIATE"} if django.VERSION >= (5, 1) else {}),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

LANGUAGE_CODE = "en"
TIME_ZONE = os.environ.get("TZ") or "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = STATION_DIR / "static"
MEDIA_URL = "/media/"
MEDIA_ROOT = str(STATION_DIR / "media")
# Producers are no staff, so the admin would not let them in.
LOGIN_URL = "login"

PROJECT_ROOT = str(STATION_DIR)
AIRCOX_PROGRAMS_DIR = str(STATION_DIR / "media" / "programs")
AIRCOX_CONTROLLERS_WORKING_DIR = str(STATION_DIR / "stations")

# Filled by the demo, which knows the ports: see demo/environment.py.
if AIRCOX_SHAPE == standin.REAL:
    # A real aircox edits texts with django-ckeditor, which wants to know where uploads go.
    CKEDITOR_UPLOAD_PATH = "uploads/"

AIRCOX_LISTEN_STATS: dict[str, Any] = environment.settings()
