"""Thousands of broken and hostile files through real children: each ends with its code, in bounded time.

A bounded number runs with every test; ``make torture`` runs the rest.
"""

# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests import hostile
from tests.hostile import Bad
from tests.integration import media_files as make
from tnfd.clock import SystemClock
from tnfd.errors import CODES, Fault
from tnfd.media import ChildMedia
from tnfd.ports.media import Decoded, PrepareRequest, Probed
from tnfd.rules.cuts import Limits

AT_ONCE = 4
BOUND_S = 60.0  # for files of kilobytes that take milliseconds; on a machine that does many other things


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return hostile.whole_files(tmp_path_factory.mktemp("whole"))


async def end_of(media: ChildMedia, path: Path, scratch: Path, longest_s: float = 1400.0) -> str:
    """How a file ends: "decoded" (to no more than ``longest_s``) or the code of its fault."""
    scratch.mkdir()
    fd = os.open(path, os.O_RDONLY)
    try:
        async with media.prepare(fd, PrepareRequest(scratch, "opus", 25_000_000, Limits(1400.0))) as events:
            seen = [event async for event in events]
        assert isinstance(seen[0], Probed)
        assert isinstance(seen[-1], Decoded)
        assert seen[-1].samples <= longest_s * 16_000
        return "decoded"
    except Fault as fault:
        return fault.code
    finally:
        os.close(fd)
        assert sum(one.stat().st_size for one in scratch.iterdir()) < 30_000_000
        shutil.rmtree(scratch)


async def run_all(folder: Path, files: Iterable[Bad], longest_s: float = 1400.0) -> dict[str, str]:
    """Each file's end by its name."""
    ends: dict[str, str] = {}
    waiting = iter(files)

    async def work(media: ChildMedia, number: int) -> None:
        for bad in waiting:
            path = folder / f"{number}.{bad.name.rpartition('.')[2]}"
            path.write_bytes(bad.data)
            async with asyncio.timeout(BOUND_S):
                ends[bad.name] = await end_of(media, path, folder / f"scratch-{number}", longest_s)

    async with ChildMedia(clock=SystemClock(), processes=AT_ONCE) as media:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(work(media, number))
        # It still does what it is for.
        good = make.wav(folder / "good.wav", 0.5)
        assert await end_of(media, good, folder / "scratch-good") == "decoded"
    return ends


def assert_ends(ends: dict[str, str]) -> Counter[str]:
    """Every end is one that users are told of; a decoder that crashed is an end too, and counted."""
    counts = Counter(ends.values())
    assert set(counts) <= {"decoded", *CODES}, counts
    assert "internal.bug" not in counts, [name for name, end in ends.items() if end == "internal.bug"]
    assert all(end.startswith("media.") for end in counts if end != "decoded"), counts
    return counts


async def test_truncated_at_every_box(tmp_path: Path, whole: dict[str, bytes]) -> None:
    files = [bad for bad in hostile.truncations(whole, 4)]
    ends = await run_all(tmp_path, files)
    counts = assert_ends(ends)
    assert len(ends) == len(files) > 300
    assert counts["decoded"] > 20
    assert counts["media.not_media"] + counts["media.corrupt"] > 50


async def test_bits_flipped(tmp_path: Path, whole: dict[str, bytes]) -> None:
    ends = await run_all(tmp_path, hostile.flips(whole, 300))
    counts = assert_ends(ends)
    assert len(ends) == 300
    assert counts["decoded"] > 50


async def test_bombs(tmp_path: Path, whole: dict[str, bytes]) -> None:
    ends = await run_all(tmp_path, hostile.bombs(whole))
    assert_ends(ends)
    for name in ("rate-1.wav", "rate-3999.wav", "rate-768001.wav", "channels-65.wav"):
        assert ends[name] in ("media.limits", "media.not_media"), (name, ends[name])
    for name in ("zeros.mp3", "gzip.mp3", "nest-20000.m4a", "compressed-header.mov", "table-alone.m4a"):
        assert ends[name] in ("media.not_media", "media.no_audio", "media.corrupt"), (name, ends[name])


async def test_sixty_four_channels_are_fine(tmp_path: Path) -> None:
    path = make.wav(tmp_path / "a.wav", 0.2, channels=64)
    assert await run_all(tmp_path, [Bad("64.wav", path.read_bytes())]) == {"64.wav": "decoded"}


async def test_nothing_leads_a_decoder_elsewhere(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Neither another file (its sound would be told by its length) nor a server (it would be asked)."""
    canary = make.wav(tmp_path / "canary.wav", 7.7)
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(200))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        files = list(hostile.lures(whole, canary, url))
        ends = await run_all(tmp_path, files, longest_s=2.0)  # their own sound is 0.4 s, the canary's 7.7
    assert_ends(ends)
    assert asked == []
    assert len(ends) == len(files) > 70
    # What also is a recording may be taken for one; a reference to sound elsewhere is not followed.
    recordings = {name for name, end in ends.items() if end == "decoded"}
    assert {name.partition("-")[0].partition(".")[0] for name in recordings} <= {
        "dref", "sound", "pdf", "zip", "two", "html", "elf"
    }, recordings  # fmt: skip


@pytest.mark.torture
@pytest.mark.timeout(3600)
async def test_thousands_of_flips_and_cuts(tmp_path: Path, whole: dict[str, bytes]) -> None:
    files = itertools.chain(hostile.flips(whole, 5000, 1000), hostile.truncations(whole, 60))
    ends = await run_all(tmp_path, files)
    counts = assert_ends(ends)
    print(dict(counts))  # noqa: T201  a figure for docs/guarantees.md
    assert len(ends) > 5500
