"""config.example.toml holds every key with its default; `config show` writes what reads back the same."""

from __future__ import annotations

import dataclasses
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tnfd.config import Config, InboxConfig, default_engine, load_config
from tnfd.config.advice import warnings_of
from tnfd.config.lines import lines_of
from tnfd.config.schema import INBOX, SECTIONS, Key, keys_of_type
from tnfd.config.show import assignment, effective_toml
from tnfd.libraries import install_command

EXAMPLE = Path(__file__, "../../../config.example.toml").resolve()


def example() -> str:
    return EXAMPLE.read_text(encoding="utf-8")


def whole_example() -> dict[str, Any]:
    """With what is not available yet uncommented."""
    return tomllib.loads(re.sub(r"^# (\[engines\.local\]|[a-z_]+ = )", r"\1", example(), flags=re.MULTILINE))


def test_the_example_loads_and_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "config.toml"
    file.write_text(example().replace("~/Dropbox/Recordings", str(tmp_path / "in")))
    config = load_config(file, {"HOME": str(tmp_path)})
    plain = load_config(None, {"HOME": str(tmp_path)})
    assert config.inboxes == (InboxConfig(path=tmp_path / "in", name="recordings"),)
    assert config.engines == {"openai": default_engine("openai")}
    assert dataclasses.replace(config, inboxes=(), engines={}, sources={}, file=None) == dataclasses.replace(
        plain, sources={}
    )


def same(key: Key, written: object) -> bool:
    if key.name in ("state_dir", "path", "name", "type", "model"):
        return bool(written)
    return bool(key.kind.to_toml(key.default) == written)


@pytest.mark.parametrize("table", ["daemon", "privacy", "budget", "retention", "inbox", "openai", "whisper"])
def test_the_example_has_every_key_and_no_other(table: str) -> None:
    data = whole_example()
    keys, written = {
        "inbox": (INBOX, data["inbox"][0]),
        "openai": (keys_of_type("openai"), data["engines"]["openai"]),
        "whisper": (keys_of_type("whisper"), data["engines"]["local"]),
    }.get(table) or (SECTIONS[table], data[table])
    assert list(written) == list(keys)
    assert [name for name, key in keys.items() if not same(key, written[name])] == []


def test_what_show_prints_means_the_same(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "config.toml"
    file.write_text(
        '[daemon]\nworkers = 3\nbackoff_s = [1, 2]\n[[inbox]]\npath = "in"\nexclude = ["a, ]", "b#"]\n'
        'language = ["en", "de"]\nprompt = "\\"quoted\\" \\n# é\\u2028"\n'
        '[engines."my own"]\ntype = "openai"\nbase_url = "http://h/v1"\napi_key_env = "K"\n[engines.sphinx]\n'
    )
    environ = {"HOME": str(tmp_path), "K": "sk-live-1", "TNFD_FORMATS": "json"}
    config = load_config(file, environ)
    shown = effective_toml(config, environ)
    again = tmp_path / "again.toml"
    again.write_text(shown, encoding="utf-8")
    reread = load_config(again, {"HOME": str(tmp_path)})
    assert dataclasses.replace(reread, sources={}, file=None) == dataclasses.replace(
        config, sources={}, file=None
    )
    assert f"workers = 3  # {file}:2" in shown
    assert 'formats = ["json"]  # $TNFD_FORMATS' in shown
    assert "queue_size = 0  # default" in shown
    assert "# key: *** ($K)" in shown
    assert "sk-live-1" not in shown


def test_show_gives_every_key_a_source(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "TNFD_ENGINE": "openai", "OPENAI_BASE_URL": "http://h/v1"}
    config = load_config(None, environ, {"inbox.path": [tmp_path / "in"]}, places=False)
    shown = effective_toml(config, environ)
    paths = [path for path in lines_of(shown) if isinstance(path[-1], str) and len(path) > 1]
    assert len([line for line in shown.splitlines() if " = " in line and "  # " in line]) == len(
        [path for path in paths if path[0] != "engines" or len(path) == 3]
    )
    assert "# server: http://h/v1  ($OPENAI_BASE_URL)" in shown
    assert "# key: none" in shown


@pytest.mark.parametrize(
    "value", ["a", [], ["a"], ["a", "b,"], ["x\ny", "z]"], [",", ", ]"], [1.5, 2.0], True]
)
def test_an_assignment_is_one_line(value: object) -> None:
    text = assignment("k", value)
    assert "\n" not in text
    assert tomllib.loads(text) == {"k": value}


def load(tmp_path: Path, text: str, environ: dict[str, str]) -> Config:
    (tmp_path / "c.toml").write_text(text)
    return load_config(tmp_path / "c.toml", {"HOME": str(tmp_path), **environ})


def test_warnings_say_what_was_probably_not_meant(tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    inboxes = '[[inbox]]\npath = "in"\n[[inbox]]\npath = "in/deep"\nengine = "sphinx"\nlanguage = "de"\n'
    engines = '[engines.a]\ntype = "openai"\nbase_url = "http://h/v1"\n[engines.sphinx]\n[engines.openai]\n'
    config = load(tmp_path, inboxes + engines, {})
    warnings = warnings_of(config, {"TNFD_WORKER": "3", "TNFD_CONFIG": "x", "TNFD_TEST_KILL_AT": "y"})
    assert [
        words
        for words in ("TNFD_WORKERS", "English only", 'exclude = ["/deep/**"]', "seldom", '"openai": no key')
        if not any(words in warning for warning in warnings)
    ] == []
    assert len(warnings) == 5


def test_nothing_to_warn_of(tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    text = '[[inbox]]\npath = "in"\nexclude = ["deep"]\n[[inbox]]\npath = "in/deep"\n[engines.openai]\n'
    assert warnings_of(load(tmp_path, text, {}), {"OPENAI_API_KEY": "sk-1"}) == []


def test_an_engine_without_its_library_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(tmp_path, "[engines.draft]\ntype = 'sphinx'\n", {})
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    (missing,) = (text for text in warnings_of(config, {}) if "draft" in text)
    assert "pocketsphinx is not installed" in missing
    assert install_command("sphinx") in missing


@pytest.mark.parametrize(
    ("base_url", "environ", "where"),
    [
        ("http://h:8000", {}, "base_url"),
        ("http://h:8000/", {}, "base_url"),
        ("", {"OPENAI_BASE_URL": "http://h:8000"}, "OPENAI_BASE_URL"),
    ],
)
def test_an_address_without_a_path_is_a_warning(
    tmp_path: Path, base_url: str, environ: dict[str, str], where: str
) -> None:
    text = f'[engines.a]\ntype = "openai"\nmodel = "m"\nbase_url = "{base_url}"\n'
    environ = {"OPENAI_API_KEY": "sk-1", **environ}
    warnings = [one for one in warnings_of(load(tmp_path, text, environ), environ) if "engine " in one]
    assert warnings == [f'engine "a": {where} has no path, and nearly all servers want one: http://h:8000/v1']


def test_a_key_that_is_named_and_empty_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0o600)
    text = '[engines.a]\ntype = "openai"\napi_key_env = "NONE"\n'
    text += '[engines.b]\ntype = "openai"\napi_key_file = "key"\n'
    warnings = "\n".join(warnings_of(load(tmp_path, text, {}), {}))
    assert "NONE holds no key" in warnings
    assert "key file is empty" in warnings
