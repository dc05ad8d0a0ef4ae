"""The worker that downloads a model once, run by ``child_host.py`` in a process of its own.

Stands alone: the standard library and huggingface_hub (which faster-whisper brings), nothing of tnfd. With
``only`` the interpreter itself refuses every connection to other networks than these.

Request: ``{"repo", "folder": hex, "patterns", "only": networks or null}``. News: ``{"bytes", "of"}`` each
second. Answer: ``{"folder": hex}``, once all of it lies there, or ``{"error", "code"}``. Files come into
``FOLDER.part``, where an interrupted download goes on, and get their name at the end; of two processes the
second waits for the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import ipaddress
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

_REACH_S = 10.0
_EVERY_S = 1.0
_SPARE_BYTES = 100_000_000
_CAUSES = 6

Tell = Callable[[object], None]


class NotLocal(OSError):
    """An address beyond the networks that are allowed."""


def open_worker() -> Callable[[dict[str, Any], Tell], dict[str, Any]]:
    """See ``child_host``."""

    def work(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
        folder = bytes.fromhex(request["folder"])
        if request["only"] is not None:
            _stay_within([ipaddress.ip_network(text) for text in request["only"]])
        try:
            with _alone(folder, tell):
                if not os.path.isdir(folder):
                    _fetch(request["repo"], folder, request["patterns"], tell)
        except Exception as error:  # noqa: BLE001 - the library raises what its many parts raise
            code = "engine.not_local" if _is_about(error, NotLocal) else "engine.no_download"
            return {"error": _story(error), "code": code}
        return {"folder": folder.hex()}

    return work


def _stay_within(networks: list[Any]) -> None:
    """Refuse to connect elsewhere: names are resolved by then, whoever resolved them."""

    def guard(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):
            address = ipaddress.ip_address(str(args[1][0]).partition("%")[0])
            address = getattr(address, "ipv4_mapped", None) or address
            if not any(address in network for network in networks if network.version == address.version):
                raise NotLocal(f"{address} is not a private address")

    sys.addaudithook(guard)


@contextlib.contextmanager
def _alone(folder: bytes, tell: Tell) -> Iterator[None]:
    """Hold the lock on one model's download."""
    os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    lock = os.open(folder + b".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    pulse = threading.Event()
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tell({"waits": True})
                pulse.wait(_EVERY_S)
        yield
    finally:
        os.close(lock)


def _fetch(repo: str, folder: bytes, patterns: list[str], tell: Tell) -> None:
    _reach()
    import huggingface_hub

    about = huggingface_hub.HfApi().model_info(repo, files_metadata=True, timeout=_REACH_S)
    wanted = [
        file
        for file in about.siblings or ()
        if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in patterns)
    ]
    if not wanted:
        raise ValueError(f"{repo} holds no model of this kind")
    total = sum(file.size or 0 for file in wanted)
    part = folder + b".part"
    os.makedirs(part, mode=0o700, exist_ok=True)
    missing = max(0, total - _size(part))
    free = shutil.disk_usage(part).free
    if free < missing + _SPARE_BYTES:
        raise OSError(f"{missing / 1e6:.0f} MB are to come, and {free / 1e6:.0f} MB are free")
    with _told(part, total, tell):
        for file in sorted(wanted, key=lambda file: file.size or 0):
            huggingface_hub.hf_hub_download(
                repo, file.rfilename, revision=about.sha, local_dir=os.fsdecode(part)
            )
    shutil.rmtree(part + b"/.cache", ignore_errors=True)
    _sync(part)
    os.rename(part, folder)


def _sync(part: bytes) -> None:
    for name in os.listdir(part):
        handle = os.open(os.path.join(part, name), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reach() -> None:
    """Say at once that there is no network: the library would try for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    place = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = place.port or (443 if place.scheme == "https" else 80)
    socket.create_connection((place.hostname or "", port), timeout=_REACH_S).close()


@contextlib.contextmanager
def _told(part: bytes, total: int, tell: Tell) -> Iterator[None]:
    """Tell each second how much lies there."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY_S):
            tell({"bytes": min(_size(part), total), "of": total})

    tell({"bytes": min(_size(part), total), "of": total})
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # it must not write between the parts of the answer


def _size(folder: bytes) -> int:
    found = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(where, name)).st_size
    return found


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_about(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in _causes(error))


def _story(error: BaseException) -> str:
    """The first cause that says something, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
