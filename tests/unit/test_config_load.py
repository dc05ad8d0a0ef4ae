"""Loading the configuration: layers, defaults, and every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from tnfd.config import (
    BudgetConfig,
    Config,
    DaemonConfig,
    EngineConfig,
    InboxConfig,
    PrivacyConfig,
    RetentionConfig,
    default_engine,
    load_config,
    require_runnable,
    resolve_settings,
)
from tnfd.config.layers import VARIABLES
from tnfd.config.schema import INBOX, SECTIONS
from tnfd.errors import ConfigError, Problem
from tnfd.model import EngineChoice

Load = Callable[..., Config]
Problems = Callable[..., list[Problem]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def load(home: Path) -> Load:
    def _load(
        text: str | None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
        *,
        places: bool = True,
    ) -> Config:
        file = home / "c.toml"
        if text is not None:
            file.write_text(text, encoding="utf-8")
        return load_config(
            file if text is not None else None,
            {"HOME": str(home), **(environ or {})},
            overrides or {},
            places=places,
        )

    return _load


@pytest.fixture
def problems(load: Load) -> Problems:
    def _problems(
        text: str | None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
        *,
        places: bool = True,
    ) -> list[Problem]:
        with pytest.raises(ConfigError) as caught:
            load(text, environ, overrides, places=places)
        return list(caught.value.problems)

    return _problems


# -- defaults and layers ---------------------------------------------------------------------------------


def test_without_any_file_the_defaults_hold(load: Load, home: Path) -> None:
    config = load(None)
    assert config.file is None
    assert config.inboxes == ()
    assert config.engines == {}  # none is ever guessed
    assert config.daemon == DaemonConfig(state_dir=home / ".local/state/tnfd")
    assert (config.daemon.workers, config.daemon.queue_slots) == (5, 10)
    assert config.privacy == PrivacyConfig()
    assert config.budget == BudgetConfig(daily_usd=10)
    assert config.retention == RetentionConfig()
    assert set(config.sources.values()) == {"default"}


def test_an_inbox_needs_its_path_only(load: Load, inbox: Path) -> None:
    config = load(f'[[inbox]]\npath = "{inbox}"\n')
    assert config.inboxes == (InboxConfig(path=inbox, name="inbox"),)


def test_precedence_is_flag_environment_file_default(load: Load, home: Path) -> None:
    text = "[daemon]\nworkers = 2\nqueue_size = 2\nmax_attempts = 2\n"
    environ = {"TNFD_WORKERS": "3", "TNFD_QUEUE_SIZE": "3"}
    config = load(text, environ, {"daemon.workers": 4})
    assert (config.daemon.workers, config.daemon.queue_size, config.daemon.max_attempts) == (4, 3, 2)
    assert config.sources["daemon.workers"] == "command line"
    assert config.sources["daemon.queue_size"] == "$TNFD_QUEUE_SIZE"
    assert config.sources["daemon.max_attempts"] == f"{home / 'c.toml'}:4"
    assert config.sources["daemon.log_level"] == "default"


def test_every_scalar_has_its_variable(load: Load, home: Path) -> None:
    values = {
        "state_dir": "~/s", "workers": "7", "queue_size": "8", "max_attempts": "9", "backoff_s": "1.5,60",
        "shutdown_grace_s": "3", "log_format": "json", "log_level": "debug", "local_only": "no",
        "daily_usd": "1.5", "monthly_usd": "20", "transcripts_days": "0",
    }  # fmt: skip
    assert set(values) == {name for keys in SECTIONS.values() for name in keys}
    config = load(None, {f"TNFD_{name.upper()}": value for name, value in values.items()})
    assert config.daemon == DaemonConfig(home / "s", 7, 8, 9, (1.5, 60.0), 3.0, "json", "debug")
    assert config.budget == BudgetConfig(1.5, 20.0)
    assert all(config.sources[VARIABLES[f"TNFD_{name.upper()}"][0]].startswith("$TNFD_") for name in values)


def test_an_empty_variable_sets_nothing(load: Load) -> None:
    config = load(None, {"TNFD_WORKERS": "", "TNFD_INBOX": "", "TNFD_ENGINE": " ", "TNFD_CONFIG": ""})
    assert config.daemon.workers == 5
    assert config.engines == {}


def test_a_container_needs_no_file(load: Load, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "in").mkdir(parents=True)
    config = load(
        None,
        {
            "TNFD_INBOX": f"{tmp_path}/a/in:{tmp_path}/b/in",
            "TNFD_FORMATS": "txt, JSON",
            "TNFD_LANGUAGE": "en,DE",
            "TNFD_ENGINE": "openai",
            "TNFD_MODEL": "base",
            "TNFD_BASE_URL": "http://gpu:8000/v1",
        },
    )
    assert [box.name for box in config.inboxes] == ["in", "in-2"]
    settings = resolve_settings(config, config.inboxes[1])
    assert settings.engines == (EngineChoice("openai", "openai", "base"),)
    assert settings.formats == ("txt", "json")
    assert settings.languages == ("en", "de")
    assert config.engines["openai"].base_url == "http://gpu:8000/v1"
    require_runnable(config)


def test_tnfd_engine_comes_before_those_of_the_file(load: Load, inbox: Path) -> None:
    text = f'[[inbox]]\npath = "{inbox}"\nengine = "mine"\n[engines.mine]\ntype = "openai"\n'
    config = load(text, {"TNFD_ENGINE": "sphinx"})
    assert list(config.engines) == ["sphinx", "mine"]
    assert resolve_settings(config, config.inboxes[0]).engines[0].name == "sphinx"


def test_a_model_from_outside_belongs_to_the_first_engine(load: Load) -> None:
    text = '[engines.a]\ntype = "openai"\n[engines.b]\ntype = "openai"\nmodel = "mb"\n'
    config = load(text, {"TNFD_MODEL": "mx"})
    assert (config.engines["a"].model, config.engines["b"].model) == ("mx", "mb")


def test_a_key_of_the_file_does_not_follow_to_another_server(load: Load) -> None:
    text = '[engines.a]\ntype = "openai"\nbase_url = "http://one:1/v1"\napi_key_env = "ONE"\n'
    assert load(text).engines["a"].api_key_env == "ONE"
    assert load(text, {"TNFD_BASE_URL": "http://one:1/v1"}).engines["a"].api_key_env == "ONE"
    assert load(text, {"TNFD_BASE_URL": "http://two:1/v1"}).engines["a"].api_key_env == ""
    moved = load(text, {"TNFD_BASE_URL": "http://two:1/v1", "TNFD_API_KEY_ENV": "TWO"})
    assert moved.engines["a"].api_key_env == "TWO"


def test_none_from_a_flag_sets_nothing_and_a_wrong_key_is_a_bug(load: Load) -> None:
    assert load(None, overrides={"daemon.workers": None}).daemon.workers == 5
    with pytest.raises(ValueError, match=r"daemon\.worker"):
        load(None, overrides={"daemon.worker": 3})


def test_flags_can_name_inboxes(load: Load, inbox: Path) -> None:
    config = load(None, overrides={"inbox.path": (inbox,), "inbox.formats": ("json",)})
    assert [(box.path, box.formats) for box in config.inboxes] == [(inbox, ("json",))]


def test_settings_are_resolved_for_jobs(load: Load, inbox: Path) -> None:
    config = load(
        f'[[inbox]]\npath = "{inbox}"\nlanguage = "pt-BR"\naudio_language = ["ENG"]\nprompt = "p"\n'
        'keywords = ["k"]\nformats = ["json", "txt"]\nname_format = "{name}.{ext}"\noutput_dir = "out"\n'
        'on_duplicate = "skip"\nstatus = "never"\nengine = "b"\n'
        '[engines.a]\ntype = "openai"\n[engines.b]\ntype = "sphinx"\n'
    )
    settings = resolve_settings(config, config.inboxes[0])
    assert settings.engines == (EngineChoice("b", "sphinx", default_engine("sphinx").model),)
    assert (settings.languages, settings.audio_languages) == (("pt-br",), ("eng",))
    assert (settings.prompt, settings.keywords) == ("p", ("k",))
    assert (settings.formats, settings.name_format) == (("json", "txt"), "{name}.{ext}")
    assert settings.output_dir == str(inbox / "out")  # relative to the inbox
    assert (settings.on_duplicate, settings.status) == ("skip", "never")


def test_without_an_engine_settings_have_none_and_run_is_refused(load: Load, inbox: Path) -> None:
    config = load(f'[[inbox]]\npath = "{inbox}"\n')
    assert resolve_settings(config, config.inboxes[0]).engines == ()
    with pytest.raises(ConfigError, match="openai or whisper or sphinx"):
        require_runnable(config)
    with pytest.raises(ConfigError, match="TNFD_INBOX"):
        require_runnable(load("", {"TNFD_ENGINE": "sphinx"}))


def test_an_engine_named_like_a_type_needs_no_type(load: Load) -> None:
    assert load("[engines.sphinx]\n").engines["sphinx"] == default_engine("sphinx")


def test_default_engines_are_the_built_in_ones() -> None:
    assert default_engine("openai") == EngineConfig("openai", "openai", "gpt-transcribe")
    assert default_engine("whisper").model == "small"
    with pytest.raises(KeyError):
        default_engine("nothing")


def test_paths_of_the_file_start_at_its_folder_and_know_home(load: Load, home: Path) -> None:
    (home / "in").mkdir()
    config = load('[daemon]\nstate_dir = "~/state"\n[[inbox]]\npath = "in/"\noutput_dir = "~/out"\n')
    assert config.daemon.state_dir == home / "state"
    assert config.inboxes[0].path == home / "in"
    assert config.inboxes[0].output_root == home / "out"


def test_a_mark_at_the_start_is_passed_over(load: Load, home: Path) -> None:
    (home / "marked.toml").write_bytes(b"\xef\xbb\xbf[daemon]\r\nworkers = 2\r\n")
    assert load_config(home / "marked.toml", {"HOME": str(home)}).daemon.workers == 2


# -- problems --------------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once(problems: Problems, inbox: Path, home: Path) -> None:
    text = f"""\
workers = 3
[daemon]
workers = 0
queue_sise = 1
backoff_s = [5, 2]
[[inbox]]
path = "{inbox}/missing"
formats = [
  "txt",
  "foo",
]
speakers = "engines"
settle_s = 0.1
name_format = "{{stm}}.{{ext}}"
exclude = ["ok/**", "a["]
[[inbox]]
engine = "opnai"
path = "{inbox}"
[engines.openai]
model = 3
base_url = "ftp://x"
[budget]
daily_usd = -1
"""
    found = problems(text, {"TNFD_LOG_LEVEL": "loud"})
    assert [(problem.line, problem.key) for problem in found] == [
        (1, "workers"),
        (3, "daemon.workers"),
        (4, "daemon.queue_sise"),
        (5, "daemon.backoff_s"),
        (7, "inbox[0].path"),
        (10, "inbox[0].formats"),
        (12, "inbox[0].speakers"),
        (13, "inbox[0].settle_s"),
        (14, "inbox[0].name_format"),
        (15, "inbox[0].exclude"),
        (17, "inbox[1].engine"),
        (20, "engines.openai.model"),
        (21, "engines.openai.base_url"),
        (23, "budget.daily_usd"),
        (None, "TNFD_LOG_LEVEL"),
    ]
    assert {problem.where for problem in found} == {str(home / "c.toml"), "environment"}
    words = "\n".join(map(str, found))
    assert 'did you mean "queue_size"?' in words
    assert 'did you mean "openai"?' in words
    assert "it belongs to [daemon]" in words


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[daemon]\nworkers = \n", 2, "not valid TOML: Invalid value"),
        ("[daemon\n", 1, "not valid TOML"),
        ("a = 1\na = 2", 2, "not valid TOML"),
        ("x = [1,\n2\n\n", 2, "not valid TOML: Unclosed array"),
        ("x = " + "[" * 5000, None, "nested too deeply"),
    ],
)
def test_wrong_syntax_gives_its_line(problems: Problems, text: str, line: int | None, words: str) -> None:
    (problem,) = problems(text)
    assert problem.line == line
    assert words in problem.message


def test_a_file_that_is_not_utf_8_gives_its_line(home: Path) -> None:
    (home / "latin.toml").write_bytes(b"# one\n# two\nx = '\xe9'\n")
    with pytest.raises(ConfigError) as caught:
        load_config(home / "latin.toml", {})
    assert caught.value.problems[0].line == 3


def test_a_named_file_that_is_missing_is_a_problem(home: Path) -> None:
    with pytest.raises(ConfigError, match="command line: --config: there is no such file"):
        load_config(home / "none.toml", {})
    with pytest.raises(ConfigError, match="environment: TNFD_CONFIG: there is no such file"):
        load_config(None, {"TNFD_CONFIG": str(home / "none.toml")})
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(home, {})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("workers = true", "whole number"),
        ("workers = 1.5", "whole number"),
        ('workers = "5"', "whole number"),
        ("max_attempts = 0", "from 1"),
        ("queue_size = -1", "from 0"),
        ("backoff_s = 5", "two numbers"),
        ("backoff_s = [0, 5]", "above 0"),
        ("backoff_s = [1, nan]", "above 0"),
        ("backoff_s = [1, 2, 3]", "two numbers"),
        ("shutdown_grace_s = inf", "number of seconds"),
        ("shutdown_grace_s = false", "number of seconds"),
        ('log_format = "jsn"', 'did you mean "json"?'),
        ('log_level = ""', "one of debug"),
        ('state_dir = ""', "found nothing"),
        ("state_dir = 1", "local disk"),
        ('state_dir = "~nobody-of-that-name/x"', "no home folder"),
        ('state_dir = "/a\\u0000b"', "zero byte"),
    ],
)
def test_wrong_values_of_the_daemon(problems: Problems, line: str, words: str) -> None:
    (problem,) = problems(f"[daemon]\n{line}\n")
    assert problem.line == 2
    assert words in problem.message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('recursive = "yes"', "true or false"),
        ("settle_s = 0.29", "at least 0.3"),
        ("formats = []", "at least 1"),
        ('formats = "txt"', "a list of formats"),
        ('formats = ["txt", 1]', "a list of formats"),
        ('formats = ["txt", "txt"]', "twice"),
        ('include = [""]', "expected a glob"),
        ('include = ["../x"]', "lead out"),
        ('exclude = ["a[b"]', "never closed"),
        ('name_format = "{stem}/{ext}"', "slash"),
        ('name_format = "{stem.x}.{ext}"', "unknown field"),
        ('name_format = "{stem"', "makes no file names"),
        ('name_format = ""', "makes no file names"),
        ('language = "english"', "language code"),
        ('language = ["en", "auto"]', "language code"),
        ('language = ["en", "EN"]', "twice"),
        ("language = 3", "a text or a list"),
        ('keywords = ["a<b"]', "no <, >"),
        ('keywords = "a"', "a list of keywords"),
        ('on_duplicate = "keep"', "one of write, skip"),
        ('existing = "ignore"', "one of process, skip"),
        ('watch = "poll"', "one of auto"),
        ('status = "failure"', 'did you mean "failures"?'),
        ('done_dir = "../x"', "relative to the inbox"),
        ('done_dir = "/x"', "relative to the inbox"),
        ('failed_dir = "."', "relative to the inbox"),
        ('failed_dir = "a/../.."', "relative to the inbox"),
        ('after = "trash"', "one of keep, move, delete"),
        ('engine = "none"', 'unknown engine "none"; add [engines.none]'),
        ('engine = [""]', "engine's name"),
        ('name = "a\\nb"', "control characters"),
        ('nme = "x"', 'did you mean "name"?'),
        ("workers = 3", "it belongs to [daemon]"),
    ],
)
def test_wrong_values_of_an_inbox(problems: Problems, inbox: Path, line: str, words: str) -> None:
    (problem,) = problems(f'[[inbox]]\npath = "{inbox}"\n{line}\n')
    assert problem.line == 3
    assert words in problem.message


@pytest.mark.parametrize("glob", ["*.mp3", "a/**", "/top/*", "[abc]*", "[!]]x", "\\[x", "**"])
def test_globs_that_will_do(load: Load, inbox: Path, glob: str) -> None:
    config = load(f"[[inbox]]\npath = '{inbox}'\nexclude = ['{glob}']\n")
    assert config.inboxes[0].exclude == (glob,)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('base_url = "host:8000"', "a URL"),
        ('base_url = "http://"', "a URL"),
        ('base_url = "http://h:99999/v1"', "a URL"),
        ('base_url = "http://h/v1?x=1"', "without ? and #"),
        ("max_concurrency = -1", "from 0"),
        ("timeout_s = -1", "at least 0"),
        ("price_usd_per_minute = -0.5", "(or -1)"),
        ('device = "cpu"', 'engines of type "openai" do not have this key'),
        ('type = "azure"', "one of openai, whisper, sphinx"),
        ('api_key = "sk-live-1"', "keys are not written here"),
    ],
)
def test_wrong_values_of_an_engine(problems: Problems, line: str, words: str) -> None:
    (problem,) = problems(f"[engines.openai]\n{line}\n")
    assert problem.line == 2
    assert words in problem.message


@pytest.mark.parametrize(
    "text",
    [
        '[engines.openai]\napi_key = "{}"',
        '[engines.openai]\napi_key_env = "{}"',
        '[engines.openai]\napi_key_env = ["{}"]',
        '[engines.openai]\napi_key_file = ["{}"]',
        '[engines.openai]\napi_key_file = "{}"',
        '[engines.openai]\nbase_url = "https://me:{}@host/v1"',
        '[engines.openai]\nbase_url = "https://me:{}#@host/v1"',
    ],
)
def test_no_problem_repeats_a_secret(problems: Problems, text: str) -> None:
    secret = "sk-live-0123456789"
    assert secret not in "\n".join(map(str, problems(text.format(secret))))


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("daemon = 3", "daemon", "expected a table, [daemon]"),
        ('[inbox]\npath = "/"', "inbox", "double brackets"),
        ("inbox = [3]", "inbox[0]", "expected a table"),
        ('[[inbox]]\nname = "x"', "inbox[0].path", "missing"),
        ('engines = "openai"', "engines", "[engines.NAME]"),
        ('[engines]\nopenai = "x"', "engines.openai", "expected a table"),
        ("[engines.mine]", "engines.mine.type", "missing: expected one of"),
        ('[engine.openai]\ntype = "openai"', "engine", 'did you mean "engines"?'),
    ],
)
def test_wrong_tables(problems: Problems, text: str, key: str, words: str) -> None:
    (problem,) = problems(text)
    assert problem.key == key
    assert problem.line
    assert words in problem.message


@pytest.mark.parametrize(
    ("environ", "key", "words"),
    [
        ({"TNFD_WORKERS": "many"}, "TNFD_WORKERS", "whole number"),
        ({"TNFD_DAILY_USD": "-2"}, "TNFD_DAILY_USD", "at least 0"),
        ({"TNFD_LOCAL_ONLY": "maybe"}, "TNFD_LOCAL_ONLY", "true or false"),
        ({"TNFD_BACKOFF_S": "2"}, "TNFD_BACKOFF_S", "two numbers"),
        ({"TNFD_FORMATS": "txt,doc"}, "TNFD_FORMATS", "unknown format"),
        ({"TNFD_ENGINE": "opnai"}, "TNFD_ENGINE", 'did you mean "openai"?'),
        ({"TNFD_MODEL": "x"}, "TNFD_MODEL", "set TNFD_ENGINE"),
        ({"TNFD_ENGINE": "sphinx", "TNFD_BASE_URL": "http://h"}, "TNFD_BASE_URL", "do not have this key"),
        ({"TNFD_ENGINE": "sphinx", "TNFD_MODEL": "small"}, "TNFD_MODEL", "do not have this key"),
        ({"TNFD_ENGINE": "openai", "OPENAI_BASE_URL": "nowhere"}, "OPENAI_BASE_URL", "a URL"),
        ({"TNFD_INBOX": "/nowhere/at/all"}, "TNFD_INBOX", "does not exist"),
    ],
)
def test_wrong_values_of_the_environment(
    problems: Problems, environ: dict[str, str], key: str, words: str
) -> None:
    (problem,) = problems(None, environ)
    assert (problem.where, problem.key) == ("environment", key)
    assert words in problem.message


def test_a_wrong_value_below_a_right_one_is_reported_too(problems: Problems) -> None:
    (problem,) = problems("[daemon]\nworkers = 0\n", {"TNFD_WORKERS": "3"})
    assert problem.line == 2


def test_the_environment_is_reported_once_for_many_inboxes(problems: Problems, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    found = problems(None, {"TNFD_INBOX": f"{tmp_path}/a:{tmp_path}/b", "TNFD_LANGUAGE": "english"})
    assert len(found) == 1


def test_a_name_stands_for_one_inbox(problems: Problems, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    text = "".join(f'[[inbox]]\npath = "{tmp_path}/{name}"\nname = "same"\n' for name in "ab")
    (problem,) = problems(text)
    assert problem.line == 6
    assert "another inbox" in problem.message


def test_a_given_name_is_kept_and_the_default_gives_way(load: Load, tmp_path: Path) -> None:
    for name in ("x/talks", "y"):
        (tmp_path / name).mkdir(parents=True)
    config = load(
        f'[[inbox]]\npath = "{tmp_path}/x/talks"\n[[inbox]]\npath = "{tmp_path}/y"\nname = "talks"\n'
    )
    assert [box.name for box in config.inboxes] == ["talks-2", "talks"]


@pytest.mark.parametrize(
    ("engine", "key"),
    [
        ('type = "openai"', "engines.x.type"),
        ('type = "openai"\nbase_url = "https://8.8.8.8/v1"', "engines.x.base_url"),
        ('type = "openai"\nbase_url = "https://api.groq.com/openai/v1"', "engines.x.base_url"),
        ('type = "whisper"\ndownload = true', "engines.x.download"),
    ],
)
def test_local_only_refuses_what_leads_elsewhere(problems: Problems, engine: str, key: str) -> None:
    (problem,) = problems(f"[engines.x]\n{engine}\n[privacy]\nlocal_only = true\n")
    assert problem.key == key
    assert "local_only" in problem.message
    assert problem.line


@pytest.mark.parametrize(
    "engine",
    [
        'type = "openai"\nbase_url = "http://192.168.1.9:8000/v1"',
        'type = "openai"\nbase_url = "http://whisper.example.org/v1"',  # where it leads is seen in use
        'type = "whisper"',
        'type = "sphinx"',
    ],
)
def test_local_only_allows_what_stays_here(load: Load, engine: str) -> None:
    assert load(f"[engines.x]\n{engine}\n[privacy]\nlocal_only = true\n").privacy.local_only


def test_a_model_may_be_a_folder_beside_the_configuration(load: Load, home: Path) -> None:
    written = '[engines.x]\ntype = "whisper"\nmodel = "./m"\n[engines.y]\ntype = "whisper"\nmodel = "a/b"\n'
    engines = load(written).engines
    assert engines["x"].model == str(home / "m")
    assert engines["y"].model == "a/b"  # a repository


@pytest.mark.parametrize(
    "lines",
    ['failed_dir = "done"', 'done_dir = "failed"', 'done_dir = "a/./b/"\nfailed_dir = "a//b"'],
)
def test_what_failed_must_not_lie_among_what_is_done(
    problems: Problems, load: Load, inbox: Path, lines: str
) -> None:
    (problem,) = problems(f'[[inbox]]\npath = "{inbox}"\nafter = "move"\n{lines}\n')
    assert "use two" in problem.message
    assert problem.line is not None
    load(f'[[inbox]]\npath = "{inbox}"\nafter = "delete"\n{lines}\n')  # nothing is moved


def test_default_values_may_be_written_down(load: Load, inbox: Path) -> None:
    text = f'[[inbox]]\npath = "{inbox}"\n'
    for name in ("speakers", "after", "done_dir", "failed_dir"):
        text += f'{name} = "{INBOX[name].default}"\n'
    load(f"{text}[privacy]\nlocal_only = false\n")


def test_the_schema_has_a_key_for_every_field() -> None:
    assert [item.name for item in fields(InboxConfig)] == list(INBOX)
    assert [item.name for item in fields(DaemonConfig)] == list(SECTIONS["daemon"])
