"""The local engine: faster-whisper in a child process. No key, and no network once the model is there.

Owns its children: one that holds the model, and for as long as it takes one that downloads it, where that is
configured. Never imports faster-whisper, numpy or ctranslate2: the daemon's process stays light, and alive
whatever the model does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog

from tnfd.engines import whisper_child, whisper_fetch
from tnfd.engines.answers import NotUnderstood, read_object
from tnfd.engines.child import Child, ChildOptions
from tnfd.engines.whisper_models import (
    NAMES,
    PATTERNS,
    find_folder,
    find_missing,
    is_path,
    own_folder,
    repository_of,
)
from tnfd.errors import CODES, Fault
from tnfd.libraries import install_command, is_installed, library_of
from tnfd.model import ChunkResult
from tnfd.ports.engine import Capabilities, EngineChunk, Hints
from tnfd.rules.faults import clean
from tnfd.rules.nearby import NETWORKS

_log = structlog.get_logger("tnfd.whisper")

_MAX_S = 1800.0  # the spectrogram of half an hour takes about 1 GB while it is made
_SILENT_S = (
    1800.0  # a sign of life comes with each segment; a large model on a small machine may need minutes
)
_STALLED_S = 180.0  # of a download, which says each second how far it is
_MEMORY_BYTES = 4 * 1024**3  # address space beside the model's own; 0.75 GiB were measured with a tiny one
_TIMES_MODEL = 3  # the weights as they are read, as they are converted, and room
_THREADS = 8
_LOG_STEP = 0.1

_PASS_ON = ("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES", "CT2_VERBOSE")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_NETWORK = (
    "HF_ENDPOINT", "HF_TOKEN", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY",
    "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
)  # fmt: skip
# Plain HTTP: the other transport would not pass the guard of local_only, nor resume as simply.
_FETCHING = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DOWNLOAD_TIMEOUT": "30",
}


@dataclass(frozen=True, slots=True)
class WhisperOptions:
    """``models_dir`` holds tnfd's own downloads; ``environ`` tells where others put theirs."""

    models_dir: Path
    environ: Mapping[str, str]
    device: str = "auto"
    compute_type: str = "auto"
    download: bool = False
    local_only: bool = False
    idle_s: float = 60.0


class WhisperEngine:
    """faster-whisper (see ``ports.Engine``). One request at a time; the child ends when it has been idle.

    ``model`` is a name that faster-whisper knows, a repository, or a folder.
    """

    type = "whisper"

    def __init__(self, name: str, model: str, options: WhisperOptions) -> None:
        self.name = name
        self.model = model
        self.doing = ""
        self.capabilities = Capabilities(
            encoding="pcm",
            max_bytes=round(_MAX_S * 2 * whisper_child.RATE_HZ),
            max_s=_MAX_S,
            timestamps=True,
            max_concurrency=1,
            usd_per_minute=0.0,
            uploads=False,
        )
        self._options = options
        self._child: Child | None = None
        self._fetching = asyncio.Lock()
        self._fetcher: Child | None = None
        self._device = options.device
        self._on_cuda = False
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closed = True
        for child in (self._fetcher, self._child):
            if child is not None:
                await child.close()

    @property
    def child_pid(self) -> int | None:
        """The process id of the child that holds the model; None while there is none."""
        return None if self._child is None else self._child.pid

    async def warm(self) -> None:
        """Load the model, unless that was done, the child is busy, or it has to be downloaded first.

        Raises:
            Fault: see ``transcribe``.
        """
        if self._child is not None and (self._child.busy or self._child.pid is not None):
            return
        self._require_library()
        folder = await asyncio.to_thread(self._find)
        if folder is not None:
            await self._ask(folder, {})

    async def transcribe(self, chunk: EngineChunk, hints: Hints) -> ChunkResult:
        """Transcribe one cut of raw s16le, 16 kHz mono (see ``ports.Engine``). Cancellation kills the child.

        Raises:
            Fault: ``engine.not_installed``, ``engine.model_missing``, ``engine.model_broken``,
                ``engine.no_download``, ``engine.not_local``, ``engine.no_device``; ``engine.language``;
                ``engine.timeout`` and ``engine.crashed``, also where the child could not work with the file.
        """
        if chunk.encoding != "pcm":
            raise ValueError(f"this engine takes pcm, not {chunk.encoding}")
        self._require_library()
        folder = await asyncio.to_thread(self._find) or await self._download()
        answer = await self._ask(
            folder,
            {
                "path": os.fsencode(chunk.path).hex(),
                "languages": list(hints.languages),
                "hints": [hint for hint in (hints.prompt.strip(), *hints.keywords) if hint.strip()],
                "words": hints.want_times,
            },
        )
        return _result(answer, chunk.duration_s)

    def preflight(self) -> None:
        """Look whether library and model are there, or may be fetched; loads nothing.

        Raises:
            Fault: ``engine.not_installed``, ``engine.model_missing``, ``engine.model_broken``.
        """
        self._require_library()
        self._find()

    def _require_library(self) -> None:
        if not is_installed(self.type):
            hint = f"Run: {install_command(self.type)}; then restart tnfd."
            raise Fault("engine.not_installed", library_of(self.type), hint=hint)

    # -- the model --------------------------------------------------------------------------------------

    def _find(self) -> Path | None:
        """The model's folder; None: it has to be downloaded, and may be.

        Raises:
            Fault: ``engine.model_missing`` or ``engine.model_broken``.
        """
        model = self.model
        folder = find_folder(model, self._options.models_dir, self._options.environ)
        if folder is not None and folder.is_dir():
            missing = find_missing(folder)
            if not missing:
                return folder
            what = ", ".join(one.name for one in missing)
            hint = " ".join(f"{one.name}: {one.hint}." for one in missing)
            raise Fault("engine.model_broken", f"{folder} lacks {what}", hint=hint)
        if is_path(model):
            raise Fault(
                "engine.model_missing", f"{folder} is not there", hint="Put the model's folder there."
            )
        if repository_of(model) is None:
            hint = f"Set model to a folder, to a repository, or to one of {', '.join(NAMES)}."
            raise Fault("engine.model_missing", f'"{model}" is no model that tnfd knows', hint=hint)
        if not self._options.download:
            raise Fault("engine.model_missing", f"{model}; download = false")
        return None

    async def _download(self) -> Path:
        """Download the model, once for all who wait for it."""
        async with self._fetching:
            folder = await asyncio.to_thread(self._find)  # somebody may have waited for the same
            if folder is not None:
                return folder
            try:
                return await self._fetch()
            finally:
                self.doing = ""

    async def _fetch(self) -> Path:
        repository = str(repository_of(self.model))
        folder = own_folder(self._options.models_dir, repository)
        request = {
            "repo": repository,
            "folder": os.fsencode(folder).hex(),
            "patterns": PATTERNS,
            "only": NETWORKS if self._options.local_only else None,
        }
        options = ChildOptions(file_bytes=0, pass_on=_NETWORK, environment=_FETCHING)
        fetcher = self._fetcher = Child(whisper_fetch, options)
        _log.info(
            "engine.download", engine=self.name, model=self.model, source=repository, folder=str(folder)
        )
        told = -1.0

        def heard(news: Any) -> None:
            nonlocal told
            self.doing, part = _progress(news)
            if part >= told + _LOG_STEP:
                told = part
                _log.info("engine.downloading", engine=self.name, model=self.model, progress=self.doing)

        self.doing = "looking for the model"
        try:
            answer = await fetcher.ask(request, limit_s=_STALLED_S, news=heard)
        except Fault as fault:
            raise Fault("engine.no_download", fault.detail) from fault
        finally:
            await fetcher.close()
        if "error" in answer:
            raise Fault(answer["code"], clean(str(answer["error"])))
        _log.info("engine.downloaded", engine=self.name, model=self.model, folder=str(folder))
        return folder

    # -- the child --------------------------------------------------------------------------------------

    async def _ask(self, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
        if self._closed:
            raise RuntimeError("the engine is closed")
        if self._child is None:
            self._child = Child(whisper_child, self._child_options(folder))
        model = {
            "model": os.fsencode(folder).hex(),
            "device": self._device,
            "compute_type": self._options.compute_type,
            "threads": min(_THREADS, _processors()),
        }

        def heard(news: Any) -> None:
            self._on_cuda = self._on_cuda or news.get("device") == "cuda"

        try:
            answer = await self._child.ask({**model, **request}, limit_s=_SILENT_S, news=heard)
        except Fault as fault:
            if fault.code == "engine.crashed":
                self._give_up_cuda(fault.detail)
            raise
        if "error" in answer:
            said = clean(str(answer["error"]))
            code = answer.get("code", "engine.crashed")
            if code == "engine.no_device" and self._give_up_cuda(said):
                return await self._ask(folder, request)
            raise Fault(code if code in CODES else "engine.crashed", said)
        return answer

    def _give_up_cuda(self, why: str) -> bool:
        """Take the processor from now on where the graphics card was only found, not asked for."""
        if not self._on_cuda or self._device != "auto":
            return False
        self._device = "cpu"
        _log.warning("engine.device", engine=self.name, device="cpu", reason=f"cuda failed: {why}")
        return True

    def _child_options(self, folder: Path) -> ChildOptions:
        # A graphics card's driver reserves address space without end: no limit where one may be used.
        memory_bytes = 0
        if self._device == "cpu" or (self._device == "auto" and not Path("/dev/nvidiactl").exists()):
            memory_bytes = _MEMORY_BYTES + _TIMES_MODEL * (folder / "model.bin").stat().st_size
        return ChildOptions(
            idle_s=self._options.idle_s, memory_bytes=memory_bytes, pass_on=_PASS_ON, environment=_OFFLINE
        )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _progress(news: Any) -> tuple[str, float]:
    """For people, and as a number from 0 to 1."""
    if "bytes" not in news:
        return "waiting for another process that downloads the model", 0.0
    done, total = int(news["bytes"]), max(1, int(news["of"]))
    part = done / total
    return f"downloading the model: {done / 1e6:.0f} of {total / 1e6:.0f} MB, {part:.0%}", part


def _result(answer: dict[str, Any], duration_s: float) -> ChunkResult:
    try:
        read = read_object(answer, duration_s)
    except NotUnderstood as error:
        raise Fault("engine.crashed", str(error)) from None
    flags = tuple(answer.get("flags", ()))
    return ChunkResult(
        text=read.text,
        segments=read.segments,
        languages=read.languages,
        timestamps="engine" if read.segments else "none",
        flags=flags if read.text else ("no_speech",),
    )
