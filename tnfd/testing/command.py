"""The test server as a process: options, the URL on the first line of stdout, a clean end on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tnfd.testing.api_server import ApiServer


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="python -m tnfd.testing.api_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds an answer takes")
    parser.add_argument("--per-audio", type=float, default=0.0, help="seconds more for each second of audio")
    parser.add_argument("--most-bytes", type=int, help="larger requests are refused")
    parser.add_argument("--longest", type=float, help="seconds of audio; longer ones are refused")
    parser.add_argument(
        "--listens", action="store_true", help="answers what the audio says (testing.seconds)"
    )
    parser.add_argument("--log", type=Path, help="append one JSON line a request")
    parser.add_argument("--fail", type=_behaviour, help="what every request gets: a status, a name, or JSON")
    parser.add_argument("--every", type=int, default=0, help="each n-th request gets --status")
    parser.add_argument("--status", type=_behaviour, default=500, help="as --fail")
    parser.add_argument("--limit", type=float, default=0.0, help="requests a minute; 0: no limit")
    parser.add_argument("--burst", type=float, default=0.0, help="that its bucket holds; 0: a minute's worth")
    options = parser.parse_args(argv)
    order: dict[str, Any] = {"base_s": options.latency, "per_audio_s": options.per_audio}
    if options.fail is not None:
        order["always"] = options.fail
    if options.every:
        order["every"] = [options.every, options.status]
    if options.limit:
        order["limit"] = {"per_minute": options.limit, "burst": options.burst}
    order |= {"most_bytes": options.most_bytes, "longest_s": options.longest}
    asyncio.run(_serve(options.port, options.log, order, listens=options.listens))


def _behaviour(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def _serve(port: int, log: Path | None, order: dict[str, Any], *, listens: bool) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = ApiServer(port=port, log=log, listens=listens)
    server.control(order)
    async with server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        await ended.wait()
