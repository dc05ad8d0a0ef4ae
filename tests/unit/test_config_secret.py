"""Keys: which one belongs to which engine, and that none is ever shown."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest

from tnfd.config import EngineConfig, Secret, base_url_of, default_engine, secret_of
from tnfd.errors import ConfigError

KEY = "sk-live-0123456789"


def engine(base_url: str = "", api_key_env: str = "", api_key_file: Path | None = None) -> EngineConfig:
    return EngineConfig("e", "openai", "m", base_url, api_key_file, api_key_env)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    file.chmod(0o600)
    return file


def revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret else None


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(KEY, "$X")
    assert {str(secret), repr(secret), f"{secret}", f"{secret!r:>3}", "%s" % secret} == {"***"}  # noqa: UP031
    assert repr([secret]) == "[***]"
    assert secret.reveal() == KEY
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_an_engine_without_base_url_takes_what_is_written_first(tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "openai-api-key").write_text("sk-credential\n")
    environ = {"OPENAI_API_KEY": "sk-env", "MINE": "sk-mine", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert revealed(secret_of(engine(api_key_file=key_file, api_key_env="MINE"), environ)) == "sk-file"
    assert revealed(secret_of(engine(api_key_env="MINE"), environ)) == "sk-mine"
    assert revealed(secret_of(engine(), environ)) == "sk-credential"
    del environ["CREDENTIALS_DIRECTORY"]
    assert revealed(secret_of(engine(), environ)) == "sk-env"
    # What was written down counts alone.
    assert secret_of(engine(api_key_env="NOT_SET"), environ) is None
    assert secret_of(engine(), {"OPENAI_API_KEY": " \n"}) is None


def test_a_server_of_its_own_gets_only_a_key_written_down_for_it(tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "openai-api-key").write_text("sk-credential\n")
    environ = {"OPENAI_API_KEY": "sk-env", "CREDENTIALS_DIRECTORY": str(tmp_path), "NAS": "sk-nas"}
    url = "http://nas:8000/v1"
    assert secret_of(engine(url), environ) is None
    assert revealed(secret_of(engine(url, "NAS"), environ)) == "sk-nas"
    assert revealed(secret_of(engine(url, "", key_file), environ)) == "sk-file"


def test_other_engines_have_no_key() -> None:
    assert secret_of(default_engine("sphinx"), {"OPENAI_API_KEY": KEY}) is None


def test_openai_base_url_belongs_to_engines_without_one() -> None:
    environ = {"OPENAI_BASE_URL": "http://other/v1"}
    assert base_url_of(engine(), environ) == "http://other/v1"
    assert base_url_of(engine("http://nas/v1"), environ) == "http://nas/v1"
    assert base_url_of(default_engine("sphinx"), environ) == ""


@pytest.mark.parametrize("content", [f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}\x00", "schlüssel", "k" * 9000])
def test_what_cannot_be_a_key_is_refused_without_showing_it(key_file: Path, content: str) -> None:
    key_file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        secret_of(engine(api_key_file=key_file), {})
    shown = "".join(traceback.format_exception(caught.value))
    assert content not in shown
    assert KEY not in shown


def test_a_key_file_is_checked_whenever_it_is_read(key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(ConfigError, match="other users may read"):
        secret_of(engine(api_key_file=key_file), {})
    key_file.unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        secret_of(engine(api_key_file=key_file), {})


def test_the_mark_of_windows_editors_is_not_part_of_the_key(key_file: Path) -> None:
    key_file.write_bytes(b"\xef\xbb\xbfsk-file\r\n")
    assert revealed(secret_of(engine(api_key_file=key_file), {})) == "sk-file"
