"""Every error that tnfd names: stable codes, what each means for the work, and what the user can do.

::

    TnfdError
    ├── Fault            one code of CODES; its fate says what happens to the work
    │   ├── SourceChanged    the file is not the one that was settled: look at it again
    │   └── SourceVanished   the file is no longer there
    ├── LeaseLost        another worker holds the job now: drop everything, write nothing
    ├── NameTaken        a file that is not ours has the name: take the next one
    ├── ConfigError      the configuration: all problems at once (exit 78)
    ├── AlreadyRunning   another daemon holds the state folder (exit 75)
    └── StoreUnusable    the database cannot be used: corrupt, newer, not writable (exit 1)
        └── StoreBusy        another program holds it: may pass by itself

Foreign exceptions are translated into these at the edge of the adapter that met them, nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Fate(StrEnum):
    """What an error means for the work at hand."""

    FILE = "file"  # this file cannot be done: fail, with code and hint
    ATTEMPT = "attempt"  # this try failed: count it, back off, try again
    THROTTLE = "throttle"  # the engine asks for patience: wait, never counted
    ENGINE = "engine"  # the engine cannot work for anybody: pause it, its jobs wait, never counted
    ADJUST = "adjust"  # the engine learned something: ask again at once, not counted
    SPLIT = "split"  # too much audio for one request: ask again with smaller pieces, not counted
    REENCODE = "reencode"  # this piece was not understood: encode it anew once, then it cannot be done
    WAIT = "wait"  # something around us is missing (disk, share): wait, never counted
    SOURCE = "source"  # the file changed or left: intake looks at it again


# What ends a piece of audio for good, once nothing smaller and no other encoding is left to try.
LOST = frozenset({Fate.FILE, Fate.SPLIT, Fate.REENCODE})


@dataclass(frozen=True, slots=True)
class Code:
    """One stable error code: its fate, one sentence of what is wrong and one of what to do."""

    code: str
    fate: Fate
    message: str
    hint: str


_TABLE = (
    # -- the source file ---------------------------------------------------------------------------
    Code("source.vanished", Fate.SOURCE, "The file is no longer there.",
         "Nothing to do; put it back and it is taken again."),
    Code("source.changed", Fate.SOURCE, "The file changed while it was being worked on.",
         "Nothing to do; it is taken again once it rests."),
    Code("source.unreadable", Fate.FILE, "The file cannot be read.",
         "Give the service's user read permission on it, then run: tnfd retry FILE"),
    Code("source.not_regular", Fate.FILE, "This is not a regular file (a pipe, device, link or folder).",
         "Put the recording itself there."),
    Code("source.io", Fate.ATTEMPT, "Reading the file failed.",
         "Check the disk or the share that it lies on, then run: tnfd retry FILE"),
    # -- media -------------------------------------------------------------------------------------
    Code("media.empty", Fate.FILE, "The file has no content (0 bytes).",
         "Copy the recording again; the new file is taken by itself."),
    Code("media.not_media", Fate.FILE, "The content is not audio or video of a known kind.",
         "Check that the file plays; convert it to mp3, m4a, wav or mp4 if it does."),
    Code("media.no_audio", Fate.FILE, "The file holds no audio stream.",
         "Nothing can be transcribed; export it again with its sound."),
    Code("media.corrupt", Fate.FILE, "The audio cannot be decoded.",
         "Check that the file plays; copy or export it again."),
    Code("media.limits", Fate.FILE, "The audio claims values outside of what is sensible.",
         "Check that the file plays; convert it to mp3, m4a or wav."),
    Code("media.too_long", Fate.FILE, "The recording is longer than any recording.",
         "Check that the file plays; cut it into files of less than 48 hours."),
    Code("media.crashed", Fate.ATTEMPT, "The decoder ended unexpectedly on this file.",
         "Convert the file to mp3, m4a or wav; report it if it plays elsewhere."),
    Code("media.timeout", Fate.ATTEMPT, "Decoding took far longer than the recording could need.",
         "Convert the file to mp3, m4a or wav, then run: tnfd retry FILE"),
    # -- engines -----------------------------------------------------------------------------------
    Code("engine.no_key", Fate.ENGINE, "The engine has no API key.",
         "Set OPENAI_API_KEY for OpenAI, else api_key_file or api_key_env in the engine's section."),
    Code("engine.bad_key", Fate.ENGINE, "The server refused the API key.",
         "Put a valid key in place, then: tnfd resume. A key in the environment needs a restart."),
    Code("engine.no_quota", Fate.ENGINE, "The account has no quota or credit left.",
         "Add credit or raise the spending limit; tnfd tries again by itself."),
    Code("engine.no_model", Fate.ENGINE, "The server does not know the model, or base_url is wrong.",
         "Check model and base_url (with its /v1) in the engine's section of the configuration."),
    Code("engine.model_gone", Fate.SOURCE,
         "The server does not know the model any more that was configured when the file was accepted.",
         "Nothing to do; the file is accepted anew with the present settings."),
    Code("engine.not_installed", Fate.ENGINE, "The engine's library is not installed.",
         "Install it into the Python environment that tnfd runs in, then restart tnfd."),
    Code("engine.model_missing", Fate.ENGINE, "The engine's model is not on this machine.",
         "Set download = true in the engine's section to fetch it once, or model to a folder with one."),
    Code("engine.model_broken", Fate.ENGINE, "The folder of the engine's model cannot be used.",
         "Copy the model again, or remove its folder and set download = true in the engine's section."),
    Code("engine.no_download", Fate.ENGINE, "The engine's model cannot be downloaded.",
         "Check the network and the free space, or copy the model's folder here and set model to it."),
    Code("engine.no_device", Fate.ENGINE, "The engine cannot use this device or compute type.",
         'Set device = "cpu" and compute_type = "int8" in the engine\'s section, or mend the driver.'),
    Code("engine.not_local", Fate.ENGINE, "The engine leads beyond this machine and its private network.",
         "Use a server or a model on this network, or set local_only = false below [privacy]."),
    Code("engine.by_hand", Fate.ENGINE, "The engine was paused by command.",
         "When it may work again, run: tnfd resume ENGINE"),
    Code("engine.down", Fate.ENGINE, "The server cannot be reached or keeps failing.",
         "Check the server and the network; tnfd tries again by itself."),
    Code("engine.rate_limited", Fate.THROTTLE, "The server asks to slow down.",
         "Nothing to do; tnfd waits as long as the server says."),
    Code("engine.unreachable", Fate.ATTEMPT, "The connection to the server failed.",
         "Check the network; tnfd tries again by itself."),
    Code("engine.server_error", Fate.ATTEMPT, "The server failed on this request.",
         "Tried again by itself; if it stays, check the server's log, then run: tnfd retry FILE"),
    Code("engine.timeout", Fate.ATTEMPT, "The server did not answer in time.",
         "Tried again by itself; raise timeout_s if the server is slow."),
    Code("engine.bad_answer", Fate.ATTEMPT, "The server's answer could not be understood.",
         "Check that base_url points to a transcription API, then run: tnfd retry FILE"),
    Code("engine.chokes", Fate.FILE, "The server fails on this file again and again while others pass.",
         "Check that the file plays; convert it to mp3 or wav, then drop it again."),
    Code("engine.crashed", Fate.ATTEMPT, "The local engine ended unexpectedly.",
         "Tried again by itself; check free memory, then run: tnfd retry FILE"),
    Code("engine.rejected", Fate.FILE, "The server refused the audio.",
         "Check that the file plays; convert it to mp3 or wav, then drop it again."),
    Code("engine.language", Fate.FILE, "The engine does not speak the language asked for.",
         "Name another engine or language for this inbox, then run: tnfd retry FILE"),
    Code("engine.no_speakers", Fate.FILE, "The speakers that were asked for cannot be told apart.",
         "Name an engine that can (model gpt-4o-transcribe-diarize), use speakers = \"channels\" for "
         "recordings with a channel a speaker, or turn speakers off; then run: tnfd retry FILE"),
    Code("engine.adjusted", Fate.ADJUST, "The server refused an option; it is left out from now on.",
         "Nothing to do; tnfd asks again at once."),
    Code("engine.content_filter", Fate.FILE, "The server's content filter refused the recording.",
         "Use another engine for this file."),
    Code("engine.bad_audio", Fate.REENCODE, "The server could not read the audio.",
         "Check that the file plays; convert it to mp3 or wav, then drop it again."),
    Code("engine.too_large", Fate.SPLIT, "The server refused the audio as too large or too long.",
         "Pieces of 20 s were tried; raise the server's limit, then run: tnfd retry FILE"),
    # -- outputs and the machine -------------------------------------------------------------------
    Code("output.unwritable", Fate.ATTEMPT, "The output folder cannot be written to.",
         "Give the service's user write permission on the folder, then run: tnfd retry FILE"),
    Code("output.disk_full", Fate.WAIT, "No space is left where the outputs or the state folder lie.",
         "Free some space; the job goes on by itself."),
    Code("output.io", Fate.ATTEMPT, "Writing an output failed.",
         "Check the disk or the share of the folder, then run: tnfd retry FILE"),
    Code("inbox.lost", Fate.WAIT, "The inbox folder is not there at the moment.",
         "Mount or restore it; the job goes on by itself."),
    Code("internal.bug", Fate.ATTEMPT, "tnfd met an error of its own.",
         "Please report it with the log lines around it; then run: tnfd retry FILE"),
)  # fmt: skip

CODES: dict[str, Code] = {row.code: row for row in _TABLE}


class TnfdError(Exception):
    """tnfd met an error that it can name."""


class Fault(TnfdError):
    """One error of the table: ``code`` picks fate, message and hint; ``detail`` says what was seen here.

    ``limit_s`` is the longest audio that the server takes in one request, where it said so (seconds).
    ``retry_after_s`` is how long whoever raised it knows that trying is pointless (seconds).
    ``maybe_paid``: a request was sent whole and its answer was lost, so it counts as spent.
    ``overloaded``: whoever raised it has too much to do, fewer requests at once would help.
    ``retryable`` tells whether trying again by hand may help, as the status file shows it.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        maybe_paid: bool = False,
        limit_s: float | None = None,
        overloaded: bool = False,
    ) -> None:
        row = CODES[code]
        self.code = code
        self.fate = row.fate
        self.detail = detail
        self.message = f"{row.message} ({detail})" if detail else row.message
        self.hint = hint or row.hint
        self.retry_after_s = retry_after_s
        self.maybe_paid = maybe_paid
        self.limit_s = limit_s
        self.overloaded = overloaded
        super().__init__(f"{code}: {self.message}")

    @property
    def retryable(self) -> bool:
        """Whether the same file may well succeed later, unchanged."""
        return self.fate not in LOST or self.code == "source.unreadable"


class SourceChanged(Fault):
    """The file is not the one that was settled."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("source.changed", detail)


class SourceVanished(Fault):
    """The file is no longer there."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("source.vanished", detail)


class LeaseLost(TnfdError):
    """Another worker holds this job now."""


class NameTaken(TnfdError):
    """A file that tnfd did not write, or that somebody has edited since, has this name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration: where it stands, what was expected."""

    where: str  # a file's path, "environment" or "command line"
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        """``FILE:LINE: KEY: MESSAGE``."""
        place = f"{self.where}:{self.line}" if self.line else self.where
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(TnfdError):
    """The configuration has mistakes: all of them, at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class AlreadyRunning(TnfdError):
    """Another daemon holds the state folder."""

    def __init__(self, state_dir: Path, pid: int | None) -> None:
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{who} already runs tnfd on {state_dir}")


class StoreUnusable(TnfdError):
    """The database in the state folder cannot be used."""


class StoreBusy(StoreUnusable):
    """Another program held the database for too long."""
