"""Ctrl-C while a command is still being loaded: it ends with 130, and no traceback is left on the screen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from tests.e2e.daemon import PATIENCE_S, REPOSITORY, Site, tone

pytestmark = pytest.mark.timeout(120)

# As the console script does. -X importtime writes a line whenever a module has been imported, which tells how
# far it is: no moment is guessed.
START = "import sys; from tnfd.__main__ import main; sys.argv[0] = 'tnfd'; main()"


async def interrupted_after(site: Site, module: str, *arguments: str) -> tuple[int, str]:
    """The exit code and what it wrote, if Ctrl-C comes when `module` has just been imported."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "importtime", "-c", START, *arguments, "--config", site.config,
        env=site.environ(), cwd=REPOSITORY, limit=1 << 20, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said, sent = [], False
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for line in process.stderr:
                text = line.decode()
                if not text.startswith("import time:"):
                    said.append(text)
                elif not sent and text.rpartition("|")[2].strip() == module:
                    os.kill(process.pid, signal.SIGINT)
                    sent = True
            await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert sent, f"{module} was not imported: {''.join(said)}"
    return process.returncode or 0, "".join(said)


@pytest.mark.parametrize(
    "module",
    [
        "tnfd.cli.options",
        "typer",
        "tnfd.cli.jobs",
        "tnfd.batch.wishes",
        "asyncio",
        "tnfd.batch.run",
        "openai",
    ],
)
async def test_a_batch_interrupted_while_it_is_loaded(site: Site, module: str) -> None:
    tone(site.inbox / "a.mp3")
    code, said = await interrupted_after(site, module, "batch", str(site.inbox))
    assert (code, "Traceback" in said, "KeyboardInterrupt" in said) == (130, False, False), said


@pytest.mark.parametrize(
    "module", ["tnfd.cli.options", "tnfd.cli.jobs", "structlog", "tnfd.daemon", "tnfd.intake.watch"]
)
async def test_a_daemon_interrupted_while_it_is_loaded(site: Site, module: str) -> None:
    code, said = await interrupted_after(site, module, "run")
    assert (code, "Traceback" in said, "KeyboardInterrupt" in said) == (130, False, False), said
