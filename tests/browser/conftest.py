"""A browser for this folder alone.

Playwright keeps an event loop running in the main thread while it is open: Django
must be told that this is no mistake, and other tests' own loops must not meet it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.parts import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ALLOW = "DJANGO_ALLOW_ASYNC_UNSAFE"
SOON_MS = 60_000
"""Nobody waits so long where all is well."""
expect.set_options(timeout=SOON_MS)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A running Chromium, which ends with the last test of this folder."""
    with chromium.browser() as running:
        yield running


@pytest.fixture(scope="package", autouse=True)
def _database_beside_the_browser() -> Iterator[None]:
    os.environ[ALLOW] = "true"
    yield
    del os.environ[ALLOW]
