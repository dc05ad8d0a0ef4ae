"""Opening the database file: settings, migrations, refusing what cannot be used. Never overwrites one."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.resources
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from tnfd.errors import StoreUnusable
from tnfd.store.sqlerror import translate

FILE_NAME = "tnfd.sqlite3"
_BUSY_TIMEOUT_S = 10.0  # the command line is a second writer


def migrations() -> list[str]:
    """The migration scripts in order; the n-th brings the database to version n."""
    folder = importlib.resources.files("tnfd.store") / "sql"
    scripts = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name
    )
    return [entry.read_text(encoding="utf-8") for entry in scripts]


def open_to_read(path: Path) -> sqlite3.Connection | None:
    """Connect to read; None where nothing was ever stored: no file, or one that nobody has prepared yet.

    Raises:
        StoreUnusable: as ``open_database``.
    """
    if not path.exists():
        return None
    try:
        return open_database(path, writable=False)
    except _Unprepared:
        return None


def open_database(path: Path, *, writable: bool = True) -> sqlite3.Connection:
    """Connect; a writable connection creates the file where needed, or migrates it, after a backup.

    Raises:
        StoreUnusable: corrupt, made by a newer tnfd, missing (read-only), or not permitted.
    """
    try:
        if writable:
            # Created here so that it is never readable by others, whatever the umask. A file that is there is
            # left alone: closing it would drop the locks that SQLite holds on it in this process (fcntl(2)).
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        mode = "rw" if writable else "ro"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
    except (OSError, sqlite3.Error) as error:
        raise StoreUnusable(f"the database {path} cannot be opened: {error}") from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        if writable:
            with _alone(path.parent):
                if _version(connection) > len(migrations()):
                    _check_version(connection, path)  # before anything is changed
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA secure_delete = ON")  # what was forgotten is overwritten
                _migrate(connection, path, migrations())
        else:
            if _version(connection) < len(migrations()):
                with _alone(path.parent, fcntl.LOCK_SH):  # another process may be at it right now
                    _check_version(connection, path)
            _check_version(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnusable(f"the database {path} cannot be used: {error}") from translate(error)
    except BaseException:
        connection.close()
        raise
    return connection


class _Unprepared(StoreUnusable):
    """A database file was made, and nothing put into it."""


@contextlib.contextmanager
def _alone(folder: Path, lock: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Let no other process prepare the database meanwhile; SQLite does not wait while it switches to WAL."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, lock)
        yield
    finally:
        os.close(fd)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version, known = _version(connection), len(migrations())
    if version > known:
        raise StoreUnusable(
            f"the database {path} was made by a newer tnfd (version {version}, this one knows {known}); "
            "install that version again, nothing was changed"
        )
    if version == 0:
        raise _Unprepared(f"the database {path} is empty")
    if version < known:
        raise StoreUnusable(f"the database {path} is of an older tnfd; start the daemon once to bring it up")


def _migrate(connection: sqlite3.Connection, path: Path, scripts: Sequence[str]) -> None:
    version = _version(connection)
    if 0 < version < len(scripts):
        _back_up(connection, path.with_name(f"{path.name}.v{version}.bak"))
    for number, script in enumerate(scripts, start=1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) < number:  # asked inside: another process may have been faster
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Copy the database as it is, whole or not at all, for this user alone, over an older copy.

    Raises:
        StoreUnusable: it cannot be copied; nothing was changed.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(part)) as copy:
            connection.backup(copy)
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        part.replace(target)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreUnusable(f"no backup of the database can be made before it is changed: {error}") from error


def _statements(script: str) -> list[str]:
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
