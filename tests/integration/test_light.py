"""Short commands import what they use and no more; how long that takes is for benchmarks/startup.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_commands import World

REPOSITORY = Path(__file__, "../../..").resolve()
HEAVY = {"asyncio", "av", "numpy", "openai", "pocketsphinx", "pydantic", "rich", "structlog", "watchfiles"}
CODE = """
import sys
from tnfd.cli import main
sys.argv[0] = "tnfd"
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def imported(world: World, *arguments: str) -> set[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(world.inbox), "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], env=environ, cwd=REPOSITORY, capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert ran.stdout, ran.stderr
    return set(ran.stderr.split())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["redo", "--help"], ["batch", "--help"]])
def test_help_and_version_load_neither_configuration_nor_store(world: World, arguments: list[str]) -> None:
    modules = imported(world, *arguments)
    assert modules & HEAVY == set()
    assert {
        name for name in modules if name.startswith(("tnfd.config", "tnfd.control", "tnfd.store"))
    } == set()


@pytest.mark.parametrize("command", ["status", "jobs"])
def test_looking_loads_nothing_heavy(world: World, command: str) -> None:
    with world.control() as control:
        control.pause()
    modules = imported(world, command, "--config", str(world.file))
    assert modules & HEAVY == set()
    assert "tnfd.store.views" in modules
    assert "tnfd.wiring" not in modules
