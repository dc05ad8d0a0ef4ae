"""What the doctor says of an engine, from its settings and what its server answers."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tnfd.config import Config, DaemonConfig, EngineConfig, PrivacyConfig
from tnfd.doctor.engine import check_engine
from tnfd.doctor.finding import Finding, Hangs, Mark, within
from tnfd.doctor.server import Reply
from tnfd.libraries import install_command

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LAN = "http://192.168.1.9:8000/v1"
KEY = {"OPENAI_API_KEY": "sk-test"}


def check(
    reply: Reply | None = None,
    *,
    environ: dict[str, str] | None = None,
    now: datetime = NOW,
    local_only: bool = False,
    whole: bool = False,
    **settings: Any,
) -> tuple[list[Finding], list[tuple[str, str | None]]]:
    """Findings, and what was asked of whom."""
    asked: list[tuple[str, str | None]] = []

    def ask(url: str, key: str | None, timeout_s: float, nearby: bool) -> Reply:
        asked.append((url, key))
        assert nearby is local_only
        assert timeout_s == 5.0
        assert reply is not None, "nothing must be asked"
        return reply

    engine = EngineConfig(**{"name": "it", "type": "openai", "model": "gpt-transcribe", **settings})
    config = Config(DaemonConfig(Path("/state")), privacy=PrivacyConfig(local_only))
    found = list(check_engine(engine, config, environ or {}, now, ask))
    return [finding for finding in found if whole or not finding.what.startswith("taken for")], asked


def marks(findings: list[Finding]) -> list[Mark]:
    return [finding.mark for finding in findings]


def test_all_is_well() -> None:
    findings, asked = check(Reply(200, models=("gpt-transcribe", "whisper-1")), environ=KEY)
    assert marks(findings) == [Mark.OK, Mark.OK]
    assert asked == [("https://api.openai.com/v1/models", "sk-test")]
    assert not any("sk-test" in str(finding) for finding in findings)


def test_without_a_key_openai_is_not_asked() -> None:
    findings, asked = check()
    assert marks(findings) == [Mark.FAIL]
    assert "OPENAI_API_KEY" in findings[0].mend
    assert asked == []


def test_a_private_server_is_asked_without_a_key_and_never_gets_openais() -> None:
    findings, asked = check(Reply(200, models=("tiny",)), environ=KEY, base_url=LAN, model="tiny")
    assert marks(findings) == [Mark.OK]
    assert asked == [(f"{LAN}/models", None)]


def test_a_key_file_that_others_may_read_fails(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-test")
    key.chmod(0o644)
    findings, asked = check(api_key_file=key)
    assert marks(findings) == [Mark.FAIL]
    assert "0644" in findings[0].what
    assert asked == []
    key.chmod(0o600)
    findings, asked = check(Reply(200, models=("gpt-transcribe",)), api_key_file=key)
    assert marks(findings) == [Mark.OK, Mark.OK]
    assert [key for _, key in asked] == ["sk-test"]


def test_local_only_asks_nobody_outside() -> None:
    findings, asked = check(environ=KEY, local_only=True)
    assert marks(findings) == [Mark.OK, Mark.FAIL]
    assert asked == []
    findings, asked = check(Reply(200, models=("tiny",)), base_url=LAN, model="tiny", local_only=True)
    assert marks(findings) == [Mark.OK]


@pytest.mark.parametrize(
    ("reply", "mark", "said"),
    [
        (Reply(0, "Connection refused"), Mark.FAIL, "cannot be reached: Connection refused"),
        (Reply(401), Mark.FAIL, "refuses the key (401)"),
        (Reply(403), Mark.FAIL, "refuses the key (403)"),
        (Reply(307), Mark.FAIL, "redirects elsewhere"),
        (Reply(404), Mark.WARN, "no list of models (404)"),
        (Reply(500), Mark.WARN, "no list of models (500)"),
        (Reply(200, models=None), Mark.WARN, "no list of models (200)"),
        (Reply(200, models=("whisper-1",)), Mark.FAIL, "does not list gpt-transcribe"),
    ],
)
def test_what_a_server_answers(reply: Reply, mark: Mark, said: str) -> None:
    findings, _ = check(reply, environ=KEY)
    assert findings[-1].mark is mark
    assert said in findings[-1].what
    assert findings[-1].why
    assert findings[-1].mend


def test_another_server_may_have_models_that_it_does_not_list() -> None:
    findings, _ = check(Reply(200, models=tuple("abcdefg")), base_url=LAN, model="tiny")
    assert findings[-1].mark is Mark.WARN
    assert "a, b, c, d, e and 2 more" in findings[-1].what


@pytest.mark.parametrize(
    ("model", "warned"),
    [
        ("whisper-1", True), ("gpt-4o-transcribe", True), ("gpt-4o-mini-transcribe", True),
        ("gpt-4o-transcribe-diarize", True), ("gpt-transcribe", False),
    ],
)  # fmt: skip
def test_models_that_openai_shuts_down(model: str, warned: bool) -> None:
    findings, _ = check(Reply(200, models=(model,)), environ=KEY, model=model)
    assert [finding for finding in findings if "2027-02-26" in finding.what] == findings[1:-1]
    assert (Mark.WARN in marks(findings)) is warned
    later, _ = check(
        Reply(200, models=(model,)), environ=KEY, model=model, now=datetime(2027, 2, 26, tzinfo=UTC)
    )
    assert (Mark.FAIL in marks(later)) is warned


def test_the_same_names_on_another_server_stay() -> None:
    findings, _ = check(Reply(200, models=("whisper-1",)), base_url=LAN, model="whisper-1")
    assert marks(findings) == [Mark.OK]


@pytest.mark.parametrize(
    ("reply", "settings", "said"),
    [
        (Reply(200, models=("m",)), {"model": "whisper-1"}, "taken for openai: times segments and words;"),
        (Reply(200, models=("m",), kind="vllm"), {"base_url": LAN}, "taken for vllm: times segments only;"),
        (Reply(404, kind="whisper.cpp"), {"base_url": LAN}, "taken for whisper.cpp:"),
        (
            Reply(200, models=("m",)),
            {"base_url": LAN, "max_concurrency": 7},
            "7 at once; what it",
        ),
        (Reply(200, models=("m",)), {"base_url": "https://api.groq.com/openai/v1"}, "taken for groq"),
    ],
)
def test_what_a_server_is_taken_for(reply: Reply, settings: dict[str, Any], said: str) -> None:
    findings, _ = check(reply, environ=KEY, whole=True, **settings)
    assert said in findings[-1].what
    assert findings[-1].mark is Mark.OK


def test_a_local_model_is_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    settings: dict[str, Any] = {"type": "whisper", "model": str(folder)}
    if find_spec("faster_whisper") is None:
        assert marks(check(**settings)[0]) == [Mark.FAIL]
        return
    findings, _ = check(**settings)
    assert marks(findings) == [Mark.OK, Mark.FAIL]
    assert "lacks model.bin, config.json, tokenizer.json, vocabulary.json" in findings[-1].what
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_text("x")
    findings, _ = check(**settings)
    assert marks(findings) == [Mark.OK, Mark.OK, Mark.OK]
    findings, _ = check(type="whisper", model="/nowhere/at/all")
    assert marks(findings) == [Mark.OK, Mark.FAIL]


def test_embedded_engines_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    findings, _ = check(type="sphinx", model="en-us")
    assert marks(findings) == [Mark.OK]
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)  # what Python itself does for "not importable"
    findings, _ = check(type="sphinx", model="en-us")
    assert marks(findings) == [Mark.FAIL]
    assert findings[0].mend == install_command("sphinx")


def test_what_hangs_is_left_behind() -> None:
    import threading

    forever = threading.Event()
    with pytest.raises(Hangs):
        within(0.01, forever.wait)
    forever.set()
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    assert within(5, lambda: 7) == 7
