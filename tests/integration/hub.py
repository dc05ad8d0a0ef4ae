"""A local server that hands out a model as Hugging Face's does, as far as its library asks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """``hold`` unset: files come to a stop half-way until it is set, or the client leaves."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.half = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, body: bytes, headers: dict[str, str], status: int = 200, start: int = 0) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body) - start), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        middle = start + (len(body) - start) // 2
        try:
            self.wfile.write(body[start:middle])
            if not self.server.hold.is_set() and len(body) > 100_000:
                self.wfile.flush()
                self.server.half.set()
                self.server.hold.wait(60)
            self.wfile.write(body[middle:])
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/models/"):
            siblings = [
                {"rfilename": name, "size": len(body)} for name, body in sorted(self.server.files.items())
            ]
            about = {
                "id": "x/y",
                "sha": COMMIT,
                "siblings": siblings,
                "private": False,
                "downloads": 1,
                "tags": [],
            }
            self._answer(json.dumps(about).encode(), {"content-type": "application/json"})
            return
        body = self.server.files.get(self.path.rpartition("/")[2])
        if body is None:
            self._answer(b"", {}, 404)
            return
        begin = self.headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        start = int(begin or 0)
        more = {"etag": f'"{len(body)}"', "x-repo-commit": COMMIT, "accept-ranges": "bytes"}
        if begin:
            more["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._answer(body, more, 206 if begin else 200, start)

    do_HEAD = do_GET


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """Serve the files of a folder as a repository of any name."""
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
