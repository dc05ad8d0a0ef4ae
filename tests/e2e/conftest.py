"""What every end-to-end test starts from: a local server that speaks the API, and a user's world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Site
from tnfd.testing.api_server import ApiServer


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, server: ApiServer) -> Site:
    return Site(tmp_path, server.url)
