"""`tnfd init`: what it writes, what it leaves alone, what it asks at a terminal."""

from __future__ import annotations

import fcntl
import os
import re
import select
import stat
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tnfd.cli import config as config_commands
from tnfd.cli import init as init_command
from tnfd.config import load_config
from tnfd.config.write import write_private
from tnfd.libraries import install_command, is_installed

REPOSITORY = Path(__file__, "../../..").resolve()
COMMANDS = """
import typer
from tnfd.cli import config, init
app = typer.Typer(rich_markup_mode=None)
config.register(app)
init.register(app)
app()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith(("TNFD_", "XDG_", "OPENAI_", "CREDENTIALS_", "STATE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def tnfd(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    app = typer.Typer(rich_markup_mode=None)
    config_commands.register(app)
    init_command.register(app)
    return CliRunner().invoke(app, list(arguments), env=dict(env or {}))


def test_init_writes_a_configuration_that_loads(home: Path) -> None:
    result = tnfd("init", "--engine", "openai", "--inbox", "~/in")
    assert result.exit_code == 0, result.output
    file = home / ".config/tnfd/config.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in file.parent.iterdir()] == ["config.toml"]  # no temporary file is left
    config = load_config(None, {"HOME": str(home)})
    assert config.file == file
    assert [inbox.path for inbox in config.inboxes] == [home / "in"]
    assert list(config.engines) == ["openai"]
    assert (home / "in").is_dir()
    assert f"Made the inbox folder {home / 'in'}" in result.stdout
    assert f"Wrote {file}" in result.stdout
    assert "No recordings" in result.stdout


def test_init_says_what_to_do_next(home: Path) -> None:
    result = tnfd("init", "--engine", "openai", "--inbox", str(home / "in"))
    steps = result.stdout.split("Next:\n")[1]
    assert "export OPENAI_API_KEY" in steps
    assert f"{home}/.config/tnfd/openai-api-key" in steps
    assert "  tnfd config check\n  tnfd run\n" in steps
    # The file that the steps name is the one that the configuration has ready.
    written = (home / ".config/tnfd/config.toml").read_text()
    assert f'# api_key_file = "{home}/.config/tnfd/openai-api-key"' in written


def test_init_knows_when_there_is_a_key(home: Path) -> None:
    result = tnfd("init", "--engine", "openai", "--inbox", "~/in", env={"OPENAI_API_KEY": "sk-live-1"})
    assert "$OPENAI_API_KEY" in result.stdout
    assert "sk-live-1" not in result.output
    assert "read -rs" not in result.stdout


def test_init_shows_what_lies_in_the_inbox(home: Path) -> None:
    (home / "in/deep").mkdir(parents=True)
    for name, size_bytes in (("a.mp3", 50_400_000), ("deep/b.wav", 635_000), ("notes.txt", 10_000_000)):
        with (home / "in" / name).open("wb") as file:
            file.truncate(size_bytes)
    result = tnfd("init", "--engine", "openai", "--inbox", "~/in")
    assert "2 recordings, 51.0 MB, about 1.0 hours of audio, about $0.27" in result.stdout
    assert "Made" not in result.stdout
    assert "those of them that were not done before" in result.stdout
    free = tnfd("init", "--engine", "sphinx", "--inbox", "~/in", "--force")
    assert "about 1.0 hours of audio, free" in free.stdout


def test_init_never_touches_a_file_without_force(home: Path) -> None:
    file = home / "c.toml"
    file.write_text("mine")
    result = tnfd("init", "--engine", "sphinx", "--inbox", "~/in", "--config", str(file))
    assert result.exit_code == 2
    assert "nothing was changed" in result.stderr
    assert file.read_text() == "mine"
    assert not (home / "in").exists()


def test_force_keeps_the_old_file_and_the_link_to_it(home: Path) -> None:
    (home / "dotfiles").mkdir()
    (home / "dotfiles/c.toml").write_text("mine")
    (home / "c.toml").symlink_to("dotfiles/c.toml")
    result = tnfd("init", "--engine", "sphinx", "--inbox", "~/in", "--force", "--config", "~/c.toml")
    assert result.exit_code == 0, result.output
    assert (home / "dotfiles/c.toml.bak").read_text() == "mine"
    assert (home / "c.toml").is_symlink()
    assert load_config(home / "c.toml", {"HOME": str(home)}).engines
    assert f"tnfd run --config {home / 'dotfiles/c.toml'}" in result.stdout


def test_minutes_and_recordings_agree_with_their_numbers(home: Path) -> None:
    (home / "in").mkdir()
    with (home / "in/a.mp3").open("wb") as file:
        file.truncate(1_000_000)
    result = tnfd("init", "--engine", "sphinx", "--inbox", "~/in")
    assert "1 recording, 1.0 MB, about 1 minute of audio" in result.stdout


def test_force_keeps_every_old_file(home: Path) -> None:
    file = home / "c.toml"
    for content in ("first", "second", "third"):
        file.write_text(content)
        result = tnfd("init", "--engine", "sphinx", "--inbox", "~/in", "--force", "--config", str(file))
        assert result.exit_code == 0, result.output
    assert [(home / f"c.toml.bak{n}").read_text() for n in ("", "2", "3")] == ["first", "second", "third"]
    assert f"kept as {home / 'c.toml.bak3'}" in result.stdout


def test_a_server_of_ones_own_by_flags(home: Path) -> None:
    url = "http://127.0.0.1:8000/v1"
    result = tnfd("init", "--base-url", url, "--model", "small", "--inbox", "~/in")
    assert result.exit_code == 0, result.output
    engine = load_config(None, {"HOME": str(home)}).engines["server"]
    assert (engine.type, engine.base_url, engine.model) == ("openai", url, "small")
    assert "OPENAI_API_KEY" not in result.stdout, "that key is never sent to another server"
    checked = tnfd("config", "check")
    assert (checked.exit_code, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--engine", "server"), "needs --base-url URL"),
        (("--engine", "server", "--base-url", "http://h/v1"), "--model NAME"),
        (("--engine", "server", "--base-url", "h:80", "--model", "m"), "expected a URL"),
        (("--engine", "server", "--base-url", "", "--model", "m"), "expected a URL"),
        (("--engine", "server", "--base-url", "http://h/v1", "--model", " "), "expected a model"),
        (("--engine", "openai", "--base-url", "http://h/v1"), "belongs to --engine server"),
        (("--engine", "sphinx", "--model", "m"), "sphinx has one model"),
    ],
)
def test_flags_that_do_not_fit_together_are_usage(home: Path, flags: tuple[str, ...], words: str) -> None:
    result = tnfd("init", "--inbox", "~/in", *flags)
    assert result.exit_code == 2
    assert words in result.stderr
    assert list(home.iterdir()) == []


def test_the_model_of_openai_can_be_named(home: Path) -> None:
    assert tnfd("init", "--engine", "openai", "--model", "whisper-1", "--inbox", "~/in").exit_code == 0
    assert load_config(None, {"HOME": str(home)}).engines["openai"].model == "whisper-1"


def test_a_missing_library_is_a_step_before_the_first_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    result = tnfd("init", "--engine", "sphinx", "--inbox", "~/in")
    assert f"  {install_command('sphinx')}\n  tnfd config check\n" in result.stdout


def test_without_a_terminal_the_engine_has_to_be_named(home: Path) -> None:
    result = tnfd("init", "--inbox", "~/in")
    assert result.exit_code == 2
    assert "openai" in result.stderr
    assert "sphinx" in result.stderr
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("engine", "words"), [("wisper", "not an engine")])
def test_an_engine_that_cannot_be_used_is_refused(home: Path, engine: str, words: str) -> None:
    result = tnfd("init", "--engine", engine, "--inbox", "~/in")
    assert result.exit_code == 2
    assert words in result.stderr
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not is_installed("whisper"), reason="faster-whisper is not installed")
def test_whisper_is_written_down_with_its_download(home: Path) -> None:
    result = tnfd("init", "--engine", "whisper", "--inbox", "~/in", "--model", "base")
    assert result.exit_code == 0
    assert "# the model base is downloaded for the first recording" in result.stdout
    engine = load_config(None, {"HOME": str(home)}).engines["whisper"]
    assert (engine.model, engine.download, engine.device) == ("base", True, "auto")


def test_without_inbox_the_usual_folder_is_taken(home: Path) -> None:
    (home / "Dropbox/Recordings").mkdir(parents=True)
    assert tnfd("init", "--engine", "sphinx").exit_code == 0
    assert load_config(None, {"HOME": str(home)}).inboxes[0].path == home / "Dropbox/Recordings"


def test_an_inbox_around_the_state_folder_is_refused(home: Path) -> None:
    result = tnfd("init", "--engine", "sphinx", "--inbox", str(home))
    assert result.exit_code == 78
    assert "must not lie inside the inbox" in result.stderr
    assert list(home.iterdir()) == []


def test_an_inbox_that_is_a_file_is_refused(home: Path) -> None:
    (home / "file").touch()
    result = tnfd("init", "--engine", "sphinx", "--inbox", "~/file")
    assert result.exit_code == 2
    assert "found a file" in result.stderr


def test_a_path_that_toml_cannot_hold_is_refused(home: Path) -> None:
    result = tnfd("init", "--engine", "sphinx", "--inbox", os.fsdecode(bytes(home) + b"/\xff"))
    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr


def test_quotes_in_a_path_are_written_right(home: Path) -> None:
    inbox = home / 'Jane "J" Doe\\s\n# recordings = "ü"'
    assert tnfd("init", "--engine", "sphinx", "--inbox", str(inbox)).exit_code == 0
    text = (home / ".config/tnfd/config.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["inbox"] == [{"path": str(inbox), "formats": ["txt"], "language": "auto"}]


def test_a_new_file_never_replaces_one(tmp_path: Path) -> None:
    file = tmp_path / "a/b/c.toml"
    write_private(file, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_private(file, b"second", replace=False)
    assert file.read_bytes() == b"first"
    write_private(file, b"third", replace=True)
    assert file.read_bytes() == b"third"
    assert [entry.name for entry in file.parent.iterdir()] == ["c.toml"]


class Terminal:
    """A real terminal with `tnfd` in it."""

    def __init__(self, home: Path, *arguments: str, columns: int = 80) -> None:
        self.screen = ""
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMANDS, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
            env={
                "HOME": str(home),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY),
                "TERM": "dumb",
            },
        )
        os.close(slave)

    def until(self, words: str) -> None:
        """Read until the words show; at the end of the output they never will."""
        while words not in self.screen:
            assert self._read(), self.screen

    def until_times(self, words: str, count: int) -> None:
        while self.screen.count(words) < count:
            assert self._read(), self.screen

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def finish(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(30)

    def _read(self) -> bool:
        assert select.select([self._master], [], [], 30)[0], self.screen
        try:
            data = os.read(self._master, 4096)
        except OSError:  # EIO: the other end is closed
            return False
        self.screen += data.decode().replace("\r\n", "\n")
        return bool(data)


def test_init_asks_at_a_terminal(home: Path) -> None:
    (home / "file").touch()
    terminal = Terminal(home, "init")
    terminal.until("Engine: ")
    assert "  openai " in terminal.screen
    assert ("  whisper " in terminal.screen) is is_installed("whisper")
    terminal.type("")  # none is ever guessed
    terminal.type("deepspeech")
    terminal.until("Please type one of: openai, server, whisper, sphinx")
    terminal.type("sphinx")
    terminal.until(f"Folder to watch [{home}/Recordings]: ")
    terminal.type("~/file")
    terminal.until("Please name another one.")
    assert "Expected a folder, found a file" in terminal.screen
    terminal.type("my talks")
    terminal.until("Make it? [Y/n]: ")
    assert not (home / "my talks").exists()
    terminal.type("n")
    terminal.until("Make it? [Y/n]: n\nFolder to watch")
    terminal.type("")
    terminal.until_times("Make it? [Y/n]: ", 2)
    assert f"{home}/Recordings does not exist." in " ".join(terminal.screen.split())
    terminal.type("why not")
    terminal.until("Please type y or n.")
    terminal.type("y")
    terminal.until("tnfd run")
    assert terminal.finish() == 0
    assert load_config(None, {"HOME": str(home)}).inboxes[0].path == home / "Recordings"
    assert not (home / "my talks").exists()


def test_init_asks_again_for_folders_that_will_not_do(home: Path) -> None:
    terminal = Terminal(home, "init", "--engine", "sphinx")
    (home / "gone").symlink_to("nowhere")
    (home / ".local/state/tnfd").mkdir(parents=True)
    refused = ("~", "/", "~/.local/state/tnfd/in", "~/gone", "~/gone/in")
    for count, folder in enumerate(refused, 1):
        terminal.until("Folder to watch [" + str(home) + "/Recordings]: ")
        terminal.type(folder)
        terminal.until_times("Please name another one.", count)
    assert len(re.findall(r"tnfd\s+keeps\s+its\s+own\s+files", terminal.screen)) == 3
    terminal.type("/proc/no/such")  # not even root makes a folder there
    terminal.until("Make it? [Y/n]: ")
    terminal.type("y")
    terminal.until_times("Please name another one.", len(refused) + 1)
    terminal.type("in")
    terminal.until_times("Make it? [Y/n]: ", 2)
    terminal.type("")
    assert terminal.finish() == 0, terminal.screen
    assert load_config(None, {"HOME": str(home)}).inboxes[0].path == home / "in"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_init_asks_again_where_nothing_may_be_written(home: Path) -> None:
    (home / "theirs").mkdir(mode=0o500)
    terminal = Terminal(home, "init", "--engine", "sphinx")
    for count, folder in enumerate(("theirs", "theirs/in"), 1):
        terminal.until("Folder to watch")
        terminal.type(folder)
        terminal.until_times("Please name another one.", count)
    terminal.type("in")
    terminal.until("Make it?")
    terminal.type("")
    assert terminal.finish() == 0


def test_init_asks_for_a_server(home: Path) -> None:
    terminal = Terminal(home, "init", "--inbox", "in")
    terminal.until("Engine: ")
    terminal.type("server")
    terminal.until("Its address")
    terminal.type("localhost")
    terminal.until("Expected a URL")
    terminal.type("http://127.0.0.1:8000/")
    terminal.until("Take http://127.0.0.1:8000/v1? [Y/n]: ")
    terminal.type("")
    terminal.until("Model")
    terminal.type("small")
    assert terminal.finish() == 0, terminal.screen
    engine = load_config(None, {"HOME": str(home)}).engines["server"]
    assert (engine.base_url, engine.model) == ("http://127.0.0.1:8000/v1", "small")


@pytest.mark.parametrize("columns", [60, 80])
def test_init_breaks_lines_between_words(home: Path, columns: int) -> None:
    (home / "in").mkdir()
    (home / "in/a.mp3").write_bytes(bytes(10_000))
    terminal = Terminal(home, "init", "--inbox", "in", columns=columns)
    terminal.until("Engine: ")
    terminal.type("openai")
    assert terminal.finish() == 0
    prose = terminal.screen.partition("\nNext:")[0]  # what follows is there to be copied
    wide = [line for line in prose.splitlines() if len(line) > columns and str(home) not in line]
    assert wide == []
    assert "it takes those of them that were not done before" in " ".join(prose.split())


def test_init_with_both_flags_asks_nothing(home: Path) -> None:
    terminal = Terminal(home, "init", "--engine", "sphinx", "--inbox", "in")
    assert terminal.finish() == 0
    assert load_config(None, {"HOME": str(home)}).inboxes[0].path == home / "in"


# -- config check, show, path ----------------------------------------------------------------------------


def test_check_names_every_problem(home: Path) -> None:
    file = home / "c.toml"
    file.write_text("[daemon]\nworkers = 0\n[[inbox]]\n")
    result = tnfd("config", "check", "--config", str(file))
    assert result.exit_code == 78
    assert result.stdout == ""
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        [f"{file}:2", "daemon.workers"],
        [f"{file}:3", "inbox[0].path"],
    ]


def test_check_says_what_is_configured_and_warns(home: Path) -> None:
    tnfd("init", "--engine", "openai", "--inbox", "~/in")
    result = tnfd("config", "check")
    assert result.exit_code == 0
    assert result.stdout == (
        f"ok: {home}/.config/tnfd/config.toml: 1 inbox: in ({home}/in); 1 engine: openai (gpt-transcribe)\n"
    )
    assert "warning: " in result.stderr
    assert "no key" in result.stderr
    quiet = tnfd("config", "check", env={"OPENAI_API_KEY": "sk-live-1"})
    assert (quiet.exit_code, quiet.stderr) == (0, "")


def test_check_without_any_file_is_fine(home: Path) -> None:
    result = tnfd("config", "check")
    assert result.exit_code == 0
    assert result.stdout == (
        "ok, but tnfd run needs an inbox and an engine:"
        " no file; defaults and environment: no inbox; no engine\n"
    )
    assert "no inbox" in result.stderr


def test_check_refuses_what_cannot_be_a_key(home: Path) -> None:
    tnfd("init", "--engine", "openai", "--inbox", "~/in")
    result = tnfd("config", "check", env={"OPENAI_API_KEY": "sk-live 1"})
    assert result.exit_code == 78
    assert "sk-live" not in result.output


def test_show_works_while_an_inbox_is_away(home: Path) -> None:
    tnfd("init", "--engine", "openai", "--inbox", "~/in")
    (home / "in").rmdir()
    result = tnfd("config", "show", env={"OPENAI_API_KEY": "sk-live-1", "TNFD_WORKERS": "3"})
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout)["daemon"]["workers"] == 3
    assert "workers = 3  # $TNFD_WORKERS" in result.stdout
    assert "# key: *** ($OPENAI_API_KEY)" in result.stdout
    assert "sk-live-1" not in result.output


def test_path_works_on_a_broken_file(home: Path) -> None:
    file = home / ".config/tnfd/config.toml"
    none = tnfd("config", "path")
    assert (none.exit_code, none.stdout) == (0, f"{file}\n")
    assert "no configuration file yet" in none.stderr
    file.parent.mkdir(parents=True)
    file.write_text("[[")
    found = tnfd("config", "path")
    assert (found.exit_code, found.stdout, found.stderr) == (0, f"{file}\n", "")
    missing = tnfd("config", "path", "--config", "none.toml")
    assert (missing.exit_code, missing.stdout) == (78, "")


def test_loading_the_configuration_is_light(home: Path) -> None:
    heavy = {"openai", "numpy", "av", "pocketsphinx", "pydantic", "rich", "tomli_w", "asyncio", "watchfiles"}
    code = "import sys, tnfd.config; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    )
    assert heavy & set(done.stdout.split()) == set()
