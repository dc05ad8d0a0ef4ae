"""These tests boot a real systemd, and run only when asked to: ``make test-systemd``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.systemd.machine import SUITES, Unavailable, booted
from tests.systemd.world import World

collect_ignore_glob = [] if os.environ.get("TNFD_TEST_SYSTEMD") else ["test_*.py"]


@pytest.fixture(scope="module", params=list(SUITES))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A booted machine with two users, and a server that speaks the API."""
    try:
        with booted(request.param) as machine:
            world = World(machine)
            world.populate()
            yield world
    except Unavailable as reason:
        pytest.skip(str(reason))
