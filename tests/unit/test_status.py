"""The status file: what stands in it, when it is written, and what is believed of a foreign one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.errors import CODES
from tnfd.model import (
    EngineChoice,
    ErrorInfo,
    FileRef,
    Gap,
    Job,
    JobSettings,
    JobState,
    MediaInfo,
    OutputFile,
    StatKey,
    Usage,
    Waiting,
    WaitReason,
)
from tnfd.rules.adopt import MAX_STATUS_BYTES, parse_status, status_owner
from tnfd.rules.status import StatusAction, decide_status, render_status
from tnfd.schemas import schema

AT = datetime(2026, 11, 23, 16, 2, 11, 999_999, tzinfo=UTC)
SHA = "0f" * 32
VALIDATOR = jsonschema.Draft202012Validator(schema("status-1"))


def a_job(**changes: Any) -> Job:
    ref = FileRef(b"/in", b"sub/talk.mp3", StatKey(1, 2, 48213321, 1_795_449_600_123_456_789, 4))
    settings = JobSettings(engines=(EngineChoice("openai", "openai", "gpt-transcribe"),))
    job = Job("01J0", "inbox:/in", "rec", ref, settings, JobState.QUEUED, "9f2c", seen_at=AT, updated_at=AT)
    return job.evolve(**changes)


def rendered(job: Job) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(render_status(job, instance="nas-1", now=AT))
    VALIDATOR.validate(whole)
    return whole


_moments = st.datetimes(timezones=st.just(UTC))
_maybe = _moments | st.none()
_names = st.binary(min_size=1, max_size=255).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
_names = _names.filter(lambda name: name not in (b".", b".."))
_words = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True)
_seconds = st.floats(0, 1e6)
_counts = st.integers(0, 1 << 40)
_shas = st.binary(min_size=32, max_size=32).map(bytes.hex)
_engines = st.builds(EngineChoice, _words, _words, st.text(max_size=20))
_gaps = st.tuples(_seconds, _seconds, st.sampled_from(sorted(CODES))).map(
    lambda gap: Gap(min(gap[:2]), max(gap[:2]), gap[2])
)
_settings = st.builds(
    JobSettings,
    engines=st.just(()),
    speakers=st.sampled_from(["off", "engine", "channels"]),
)
_refs = st.builds(
    FileRef,
    root=st.just(b"/in"),
    rel=_names,
    stat=st.builds(StatKey, st.just(1), st.just(2), _counts, st.integers(-(1 << 80), 1 << 80), st.just(0)),
)
_errors = st.builds(ErrorInfo, st.sampled_from(sorted(CODES)), st.text(), st.text(), st.booleans())
_media = st.builds(MediaInfo, _words, _words, st.none() | st.floats(0, 1e8), st.integers(0, 9))
_outputs = st.builds(OutputFile, st.sampled_from(["txt", "srt", "json"]), _names, st.none() | _shas)
jobs = st.builds(
    Job,
    id=st.from_regex(r"[0-9A-Z]{26}", fullmatch=True),
    scope=st.just("inbox:/in"),
    inbox=st.text(),
    source=_refs,
    settings=_settings,
    state=st.sampled_from(JobState),
    profile=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    seen_at=_moments,
    updated_at=_moments,
    sha256=_shas | st.none(),
    transcription=st.none(),
    waiting=st.none() | st.builds(Waiting, st.sampled_from(WaitReason), _maybe, st.text()),
    error=st.none() | _errors,
    failures=st.integers(0, 9),
    lease_epoch=st.just(0),
    media=st.none() | _media,
    engine=st.none() | _engines,
    chunks_done=_counts,
    chunks_total=_counts,
    outputs=st.lists(_outputs, max_size=3).map(tuple),
    timestamps=st.sampled_from([None, "engine", "aligned", "estimated", "none"]),
    languages=st.lists(st.sampled_from(["en", "pt-BR"]), max_size=2).map(tuple),
    gaps=st.lists(_gaps, max_size=4).map(tuple),
    flags=st.lists(_words, max_size=4).map(tuple),
    duplicate_of=st.none() | st.tuples(_words, _names),
    usage=st.builds(Usage, _seconds, _counts, _counts, _seconds),
    settled_at=_maybe,
    started_at=_maybe,
    finished_at=_maybe,
    moved_to=st.none(),
)  # fmt: skip


@given(jobs)
def test_every_job_renders_to_the_schema_and_is_read_back(job: Job) -> None:
    whole = rendered(job)
    assert set(whole) == set(schema("status-1")["required"]), "keys and schema drifted apart"
    found = parse_status(render_status(job, instance="nas-1", now=AT))
    assert found is not None
    assert (found.job, found.state, found.source_name, found.sha256) == (
        job.id, job.state, job.source.name, job.sha256,
    )  # fmt: skip
    assert {o.format: o for o in found.outputs} == {o.format: o for o in job.outputs if o.sha256}
    assert (found.engine, found.languages, found.timestamps) == (job.engine, job.languages, job.timestamps)


@pytest.mark.parametrize("state", JobState)
def test_every_state_is_in_the_schema(state: JobState) -> None:
    assert rendered(a_job(state=state))["state"] == state.value


@pytest.mark.parametrize("reason", WaitReason)
def test_every_wait_reason_is_in_the_schema(reason: WaitReason) -> None:
    assert rendered(a_job(waiting=Waiting(reason)))["waiting"] == {
        "reason": reason.value,
        "until": None,
        "detail": "",
    }


def test_finished_job_says_everything() -> None:
    job = a_job(
        state=JobState.DONE,
        sha256=SHA,
        media=MediaInfo("mp3", "mp3", 3601.2004, 1, decoded_s=3590.5),
        engine=EngineChoice("openai", "openai", "gpt-transcribe"),
        chunks_done=7,
        chunks_total=7,
        outputs=(OutputFile("txt", b"talk.txt", SHA), OutputFile("srt", b"talk.srt", None)),
        timestamps="none",
        languages=("en",),
        usage=Usage(3601.2, 7, 10911233, 0.1 + 0.17),
        settled_at=AT,
        started_at=AT,
        finished_at=AT + timedelta(hours=1),
    )
    assert rendered(job) == {
        "schema": "tnfd.status/1",
        "job": "01J0",
        "state": "done",
        "instance": "nas-1",
        "profile": "9f2c",
        "updated_at": "2026-11-23T16:02:11Z",
        "source": {
            "name": "talk.mp3",
            "size_bytes": 48213321,
            "modified_at": "2026-11-23T16:00:00Z",
            "sha256": SHA,
        },
        "media": {
            "container": "mp3",
            "codec": "mp3",
            "duration_s": 3601.2,
            "decoded_s": 3590.5,
            "audio_streams": 1,
        },
        "engine": {"name": "openai", "type": "openai", "model": "gpt-transcribe"},
        "progress": {"chunks_done": 7, "chunks_total": 7},
        "failures": 0,
        "waiting": None,
        "error": None,
        "outputs": {"txt": {"name": "talk.txt", "sha256": SHA}},
        "timestamps": "none",
        "languages": ["en"],
        "speakers": "off",
        "gaps": [],
        "flags": [],
        "doubts": [],
        "duplicate_of": None,
        "usage": {"audio_s": 3601.2, "requests": 7, "uploaded_bytes": 10911233, "cost_usd": 0.27},
        "timing": {
            "seen_at": "2026-11-23T16:02:11Z",
            "settled_at": "2026-11-23T16:02:11Z",
            "started_at": "2026-11-23T16:02:11Z",
            "finished_at": "2026-11-23T17:02:11Z",
        },
    }


def test_fresh_job_is_null_where_nothing_is_known() -> None:
    whole = rendered(a_job())
    nulls = {key for key, value in whole.items() if value is None}
    assert nulls == {"media", "engine", "waiting", "error", "timestamps", "duplicate_of"}
    assert [key for key, value in whole["timing"].items() if value is None] == [
        "settled_at", "started_at", "finished_at",
    ]  # fmt: skip


def test_copy_costs_nothing_and_names_its_original() -> None:
    job = a_job(state=JobState.DUPLICATE, duplicate_of=("01H0", b"/in/caf\xe9.mp3"), usage=Usage(9, 9, 9, 9))
    whole = rendered(job)
    assert whole["usage"] == {"audio_s": 0, "requests": 0, "uploaded_bytes": 0, "cost_usd": 0}
    assert whole["duplicate_of"] == {
        "job": "01H0", "path": "/in/caf\\xe9.mp3", "path_base64": "L2luL2NhZukubXAz",
    }  # fmt: skip


def test_moments_of_other_zones_are_shown_in_utc() -> None:
    whole = json.loads(
        render_status(a_job(), instance="x", now=datetime.fromisoformat("0999-01-02T00:30:00+01:00"))
    )
    assert whole["updated_at"] == "0999-01-01T23:30:00Z"


def test_file_time_outside_of_the_calendar_is_null() -> None:
    job = a_job()
    ref = FileRef(b"/in", b"talk.mp3", StatKey(1, 2, 3, 1 << 70, 4))  # btrfs keeps 64 bits of seconds
    assert rendered(job.evolve(source=ref))["source"]["modified_at"] is None


def test_length_that_a_broken_header_promises_is_null() -> None:
    assert rendered(a_job(media=MediaInfo("wav", "pcm", float("inf"), 1)))["media"]["duration_s"] is None


def act(state: JobState, setting: str = "always", **given: Any) -> str:
    facts: dict[str, Any] = {
        "in_state_s": 0.0,
        "since_written_s": None,
        "changed": True,
        "has_outputs": False,
    }
    return decide_status(setting, state, **(facts | given)).value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "state", [state for state in JobState if state.final and state is not JobState.VANISHED]
)
def test_final_state_is_written_at_once_and_once(state: JobState) -> None:
    assert act(state) == "write"
    assert act(state, since_written_s=0.1) == "write"
    assert act(state, since_written_s=0.1, changed=False) == "leave"


@pytest.mark.parametrize("state", [state for state in JobState if not state.final])
def test_passing_state_is_written_after_ten_seconds_and_then_every_ten(state: JobState) -> None:
    assert act(state, in_state_s=9.9) == "leave"
    assert act(state, in_state_s=10) == "write"
    assert act(state, in_state_s=15, since_written_s=5) == "leave"
    assert act(state, in_state_s=20, since_written_s=10) == "write"
    assert act(state, in_state_s=20, since_written_s=10, changed=False) == "leave"


def test_vanished_file_takes_its_status_along_unless_outputs_remain() -> None:
    assert act(JobState.VANISHED, since_written_s=1) == "remove"
    assert act(JobState.VANISHED, since_written_s=1, has_outputs=True) == "write"


def test_failures_only_are_written_and_removed_once_mended() -> None:
    assert act(JobState.FAILED, "failures") == act(JobState.PARTIAL, "failures") == "write"
    assert act(JobState.RUNNING, "failures", in_state_s=99) == "leave"
    assert act(JobState.DONE, "failures", since_written_s=99, has_outputs=True) == "remove"


def test_never_means_never() -> None:
    assert {act(state, "never", in_state_s=99) for state in JobState} == {StatusAction.LEAVE.value}


def spoiled(**changes: Any) -> bytes:
    job = a_job(state=JobState.DONE, outputs=(OutputFile("txt", b"talk.txt", SHA),))
    return json.dumps(rendered(job) | changes).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"\xff\xfe",
        b"[" * 500_000,
        b'{"schema": "tnfd.status/1", "n": ' + b"9" * 5000 + b"}",
        spoiled(schema="tnfd.status/2"),
        spoiled(state="gone"),
        spoiled(state=["done"]),
        spoiled(job="../01J"),
        spoiled(source={"name": "a/b.mp3", "size_bytes": 1, "sha256": None}),
        spoiled(source={"name": "talk.mp3", "size_bytes": True, "sha256": None}),
        spoiled(source={"name": "\ud800", "size_bytes": 1, "sha256": None}),
        spoiled(outputs={"txt": {"name": "../../.bashrc", "sha256": SHA}}),
        spoiled(outputs={"txt": {"name": "..", "sha256": SHA}}),
        spoiled(outputs={"txt": {"name": "x", "name_base64": "Li4vLmJhc2hyYw==", "sha256": SHA}}),
        spoiled(outputs={"txt": {"name": "x", "name_base64": "*", "sha256": SHA}}),
        spoiled(outputs={"txt": {"name": "x", "name_base64": "\xbc", "sha256": SHA}}),
        spoiled(outputs={"txt": {"name": "x", "name_base64": 7, "sha256": SHA}}),
        spoiled(outputs={"txt": {"name": "talk.txt", "sha256": SHA.upper()}}),
        spoiled(outputs={"txt": None}),
        spoiled(outputs=[]),
        spoiled(timestamps=[]),
        spoiled(gaps=[{"start_s": float("nan"), "end_s": 1, "error": "x.y"}]),
        spoiled(gaps=[{"start_s": 2, "end_s": 1, "error": "x.y"}]),
        spoiled(gaps=[7]),
        spoiled(gaps="x"),
        spoiled(languages=["en\x1b"]),
        spoiled(instance="x" * 5000),
        spoiled(detail="x" * MAX_STATUS_BYTES),
    ],
)  # fmt: skip
def test_unsound_status_is_not_believed(data: bytes) -> None:
    assert parse_status(data) is None


def test_odd_status_of_ours_is_still_ours() -> None:
    data = spoiled(languages=["English (US)"])
    assert parse_status(data) is None
    assert status_owner(data) == ("01J0", b"talk.mp3")
    assert status_owner(b'{"job": "01J0", "source": {"name": "talk.mp3"}}') is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_in_any_place_never_raises(value: Any) -> None:
    for key in rendered(a_job()):
        parse_status(spoiled(**{key: value}))
    for key in ("name", "size_bytes", "sha256", "name_base64"):
        parse_status(spoiled(source={"name": "a", "size_bytes": 1, "sha256": SHA, key: value}))
