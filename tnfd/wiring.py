"""Builds the house from the configuration: the only place that knows which adapter stands behind a port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tnfd.config import Config, EngineConfig, InboxConfig, base_url_of, resolve_settings, secret_of
from tnfd.config.subtree import Subtrees
from tnfd.engines.ear import ChildEar
from tnfd.engines.openai import OpenAIEngine
from tnfd.engines.rack import EngineRack
from tnfd.engines.sphinx import SphinxEngine
from tnfd.engines.whisper import WhisperEngine, WhisperOptions
from tnfd.engines.whisper_models import find_folder, find_missing, installed_model
from tnfd.errors import ConfigError, Fault, StoreUnusable
from tnfd.intake.claims import StoreClaims
from tnfd.intake.inbox import InboxIntake
from tnfd.intake.options import IntakeOptions
from tnfd.intake.roots import Roots
from tnfd.libraries import install_command, is_installed, library_of
from tnfd.media import ChildMedia
from tnfd.outputs.local import LocalOutputs
from tnfd.pipeline.adopt import Adopter
from tnfd.pipeline.after import Mover
from tnfd.pipeline.deliver import Deliverer
from tnfd.pipeline.existing import ExistingTranscripts
from tnfd.pipeline.fate import RetryPolicy
from tnfd.pipeline.files import FileThreads
from tnfd.pipeline.gate import Gate
from tnfd.pipeline.handler import JobHandler
from tnfd.pipeline.hearing import Hearing
from tnfd.pipeline.room import Room
from tnfd.pipeline.statusfiles import StatusKeeper
from tnfd.pipeline.transcribe import Transcriber
from tnfd.ports.batch import Former
from tnfd.ports.claims import Origin, inbox_scope
from tnfd.ports.clock import Clock
from tnfd.ports.engine import Engine
from tnfd.ports.progress import Progress
from tnfd.queue.embedded import EmbeddedQueue, OnFinished
from tnfd.store import batch, database
from tnfd.store.ledger import Budget
from tnfd.store.sqlite import SqliteStore

_MIN_AHEAD = 2
_EXPRESS = 2  # copies and further formats that are written past a busy engine


@dataclass(frozen=True, slots=True)
class House:
    """The rooms, connected."""

    config: Config
    clock: Clock
    store: SqliteStore
    engines: Mapping[str, Engine]
    media: ChildMedia
    transcriber: Transcriber
    handler: JobHandler
    keeper: StatusKeeper
    scratch: Path
    mover: Mover
    existing: ExistingTranscripts
    rack: EngineRack
    gate: Gate
    room: Room


def scope_of(inbox: InboxConfig) -> str:
    """The scope of an inbox's jobs: its path, so that renaming an inbox orphans nothing."""
    return inbox_scope(os.fsencode(inbox.path))


def prepare_state_dir(config: Config) -> Path:
    """Make the state folder where it is missing; it is for this user's eyes only.

    Raises:
        StoreUnusable: it cannot be made, or not be written to.
    """
    state_dir = config.daemon.state_dir
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = state_dir.stat()
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:  # it holds transcripts
            state_dir.chmod(0o700)
    except OSError as error:
        raise StoreUnusable(f"the state folder {state_dir} cannot be used: {error.strerror}") from error
    return state_dir


def build_engine(engine: EngineConfig, config: Config, environ: Mapping[str, str], clock: Clock) -> Engine:
    """Build one engine. Its key is looked up at each request, so that a key put in place later is found."""
    if engine.type == "sphinx":
        return SphinxEngine(engine.name)
    if engine.type == "whisper":
        return WhisperEngine(engine.name, engine.model, _whisper_options(engine, config, environ))

    def key() -> str | None:
        try:
            secret = secret_of(engine, environ)
        except ConfigError:
            return None
        return None if secret is None else secret.reveal()

    return OpenAIEngine(
        engine.name,
        engine.model,
        base_url_of(engine, environ),
        key,
        max_concurrency=engine.max_concurrency,
        timeout_s=engine.timeout_s,
        price_usd_per_minute=engine.price_usd_per_minute,
        requests_per_minute=engine.requests_per_minute,
        local_only=config.privacy.local_only,
        clock=clock,
    )


def _whisper_options(engine: EngineConfig, config: Config, environ: Mapping[str, str]) -> WhisperOptions:
    return WhisperOptions(
        models_dir(config),
        environ,
        device=engine.device,
        compute_type=engine.compute_type,
        download=engine.download,
        local_only=config.privacy.local_only,
    )


def installed_whisper(config: Config, environ: Mapping[str, str], model: str = "") -> str | None:
    """A whisper model that lies on this machine, if its library does: ``model``, or the one to prefer."""
    if not is_installed("whisper"):
        return None
    if model:
        folder = find_folder(model, models_dir(config), environ)
        return None if folder is None or find_missing(folder) else model
    return installed_model(models_dir(config), environ)


def preflight(engine: EngineConfig, config: Config, environ: Mapping[str, str]) -> None:
    """Say what keeps an engine on this machine from working, as far as looking at files tells.

    Raises:
        Fault: a library or a model is missing, and nothing will bring it.
    """
    if engine.type == "whisper":
        WhisperEngine(engine.name, engine.model, _whisper_options(engine, config, environ)).preflight()
    elif not is_installed(engine.type):
        hint = f"Run: {install_command(engine.type)}; then restart tnfd."
        raise Fault("engine.not_installed", library_of(engine.type), hint=hint)


def models_dir(config: Config) -> Path:
    """Where tnfd puts models that it downloads."""
    return config.daemon.state_dir / "models"


def _builder(config: Config, environ: Mapping[str, str], clock: Clock) -> Callable[[str, str | None], Engine]:
    def build(name: str, model: str | None) -> Engine:
        engine = config.engines[name]
        return build_engine(replace(engine, model=model or engine.model), config, environ, clock)

    return build


def _budget(config: Config) -> Budget:
    return Budget(config.budget.daily_usd, config.budget.monthly_usd)


def _policy(config: Config) -> RetryPolicy:
    return RetryPolicy(config.daemon.max_attempts, *config.daemon.backoff_s)


@contextlib.asynccontextmanager
async def open_store(config: Config, clock: Clock, *, kind: str) -> AsyncIterator[SqliteStore]:
    """Open the store in this process's name.

    Raises:
        StoreUnusable: see ``SqliteStore``.
    """
    owner = f"{kind}-{os.getpid()}-{secrets.token_hex(4)}"
    state_dir = prepare_state_dir(config)
    async with SqliteStore(
        state_dir, clock, owner=owner, pid=os.getpid(), kind=kind, budget=_budget(config)
    ) as store:
        yield store


async def _warm(media: ChildMedia, engines: Sequence[Engine]) -> None:
    """Do ahead what the first request needs; what is wrong with it, the first job says."""
    with contextlib.suppress(Fault):
        await media.warm()
    for engine in engines:
        with contextlib.suppress(Fault):
            await engine.warm()


@contextlib.asynccontextmanager
async def open_house(
    config: Config,
    environ: Mapping[str, str],
    clock: Clock,
    *,
    kind: str = "daemon",
    progress: Progress | None = None,
    adopt: bool = True,
    warm: Collection[str] = (),
) -> AsyncIterator[House]:
    """Open everything that the pipeline needs; on leaving, all of it is closed.

    ``adopt``: take the work of another tnfd for done, where its status file and outputs say so. ``warm``:
    engines that are about to be used, to be made ready meanwhile.

    Raises:
        StoreUnusable: the database cannot be used.
    """
    daemon = config.daemon
    async with contextlib.AsyncExitStack() as stack:
        rack = EngineRack(tuple(config.engines), _builder(config, environ, clock))
        await stack.enter_async_context(rack)
        media = await stack.enter_async_context(ChildMedia(clock=clock))
        ear = await stack.enter_async_context(ChildEar())
        if warm:
            aside = await stack.enter_async_context(asyncio.TaskGroup())
            aside.create_task(_warm(media, [rack.configured[name] for name in warm]))
        store = await stack.enter_async_context(open_store(config, clock, kind=kind))
        scratch = daemon.state_dir / "scratch"
        scratch.mkdir(mode=0o700, exist_ok=True)
        files = FileThreads(clock)
        stack.push_async_callback(files.close)
        outputs = LocalOutputs(clock)
        gate = Gate(store, clock, progress)
        room = Room(daemon.workers)
        transcriber = Transcriber(
            store, gate, media, rack, files, scratch,
            room=room, max_attempts=daemon.max_attempts, progress=progress, hearing=Hearing(ear),
        )  # fmt: skip
        deliverer = Deliverer(store, outputs, files, progress)
        adopter = (
            Adopter(store, outputs, files, deliverer, clock, instance=socket.gethostname()) if adopt else None
        )
        handler = JobHandler(transcriber, deliverer, clock, _policy(config), adopter=adopter)
        # Of their own: a large file on its way to another disk takes its time.
        movers = FileThreads(clock, patience_s=None)
        stack.push_async_callback(movers.close)
        mover = Mover(store.after, outputs, movers)
        keeper = StatusKeeper(store, outputs, files, clock, instance=socket.gethostname(), busy=mover.in_work)
        engines, existing = rack.configured, ExistingTranscripts(store, outputs, files)
        yield House(
            config, clock, store, engines, media, transcriber, handler, keeper, scratch, mover, existing,
            rack, gate, room,
        )  # fmt: skip


async def renew_house(
    house: House, config: Config, environ: Mapping[str, str], engines: Collection[str]
) -> tuple[House, list[Engine]]:
    """Fit the rooms to another configuration, while they work; return the house with it.

    ``engines``: the names of those that are set otherwise, new or gone. The engines that are returned beside
    are no longer asked for; ``house.rack.close`` them when the work that holds them has ended. Inboxes, queue
    and log belong to whoever runs them.
    """
    build = _builder(config, environ, house.clock)
    gone = await house.rack.renew(tuple(config.engines), build, engines)
    for name in engines:
        house.gate.forget(name)
    house.room.resize(config.daemon.workers)
    house.handler.policy = _policy(config)
    house.transcriber.max_attempts = config.daemon.max_attempts
    house.store.budget = _budget(config)
    return replace(house, config=config), gone


def build_queue(
    house: House, scopes: Collection[str], on_finished: OnFinished, *, ahead: int = 0
) -> EmbeddedQueue:
    """The embedded queue: ``workers`` files at work, and ``ahead`` more being prepared or written.

    What is prepared ahead keeps the engine's slots busy while a finished file is being written.
    """
    return EmbeddedQueue(
        house.store,
        house.clock,
        scopes=scopes,
        express=_EXPRESS,
        on_finished=on_finished,
        **queue_width(house.config, ahead),
    )


def queue_width(config: Config, ahead: int = 0) -> dict[str, int]:
    """How many jobs the queue works on at once, and how many ids it holds."""
    workers = config.daemon.workers
    concurrency = workers + max(_MIN_AHEAD, workers // 4, ahead)
    return {"concurrency": concurrency, "size": config.daemon.queue_slots}


def read_formers(config: Config, folders: Sequence[bytes]) -> dict[bytes, list[Former]]:
    """Jobs that files below some folders have already, newest first, by absolute path; changes nothing.

    Raises:
        StoreUnusable: there is a database, and it cannot be read.
    """
    path = config.daemon.state_dir / database.FILE_NAME
    found: dict[bytes, list[Former]] = {}
    if (reading := database.open_to_read(path)) is not None:
        with contextlib.closing(reading) as connection:
            for folder in folders:
                found.update(batch.formers(connection, folder))
    return found


def read_redo(config: Config, fingerprint: str) -> float | None:
    """When the redo with this fingerprint was begun that did not come to its end; changes nothing.

    Raises:
        StoreUnusable: there is a database, and it cannot be read.
    """
    if (reading := database.open_to_read(config.daemon.state_dir / database.FILE_NAME)) is None:
        return None
    with contextlib.closing(reading) as connection:
        return batch.redo_begun(connection, fingerprint)


def build_intake(
    house: House, inbox: InboxConfig, on_claimed: Callable[[], None], roots: Roots | None = None
) -> InboxIntake:
    """The watcher of one inbox; ``on_claimed`` hears of each commit. ``roots``: shared by all inboxes."""
    settings = resolve_settings(house.config, inbox)
    root = os.fsencode(inbox.path)
    skip = [settings.done_dir, settings.failed_dir] if settings.after == "move" else []
    skip += [os.fsdecode(below) for below in inboxes_inside(house.config, inbox)]
    options = IntakeOptions(
        recursive=inbox.recursive,
        include=inbox.include,
        exclude=inbox.exclude,
        settle_s=inbox.settle_s,
        watch_mode=inbox.watch,
        existing=inbox.existing,
        skip_dirs=tuple(os.path.normpath(os.fsencode(folder)) for folder in skip),
    )
    existing = house.existing.of if inbox.skip_existing_outputs else None
    claims = StoreClaims(house.store, root, on_claimed, existing)
    origin = Origin(scope_of(inbox), inbox.name, settings)
    return InboxIntake(origin, root, options, claims, house.clock, roots, Subtrees(inbox.path, settings))


def inboxes_inside(config: Config, inbox: InboxConfig) -> list[bytes]:
    """The folders of other inboxes that lie in this one, relative to it: what is in them is theirs alone."""
    root = os.path.realpath(os.fsencode(inbox.path))
    others = (os.path.realpath(os.fsencode(other.path)) for other in config.inboxes if other is not inbox)
    base = root.rstrip(b"/") + b"/"
    return [other[len(base) :] for other in others if other.startswith(base)]
