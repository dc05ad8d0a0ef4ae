"""From an error to what happens to the job, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tnfd.errors import CODES, LOST, Fate, Fault, SourceChanged, SourceVanished
from tnfd.model import Waiting, WaitReason
from tnfd.pipeline.fate import RetryPolicy, decide_outcome
from tnfd.ports.queue import Fail, LookAgain, Outcome, Retry, Vanished, Wait

NOW = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=3, first_s=2.0, longest_s=300.0)


def decide(fault: Fault, failures: int = 0, chance: float = 0.5) -> Outcome:
    return decide_outcome(fault, failures=failures, policy=POLICY, now=NOW, chance=chance)


def of(fate: Fate) -> list[str]:
    return [row.code for row in CODES.values() if row.fate is fate]


@pytest.mark.parametrize("code", [code for fate in sorted(LOST) for code in of(fate)])
def test_file_s_fault_fails_it_at_once_and_uncounted(code: str) -> None:
    fault = Fault(code, "seen", hint="do this")
    retryable = code == "source.unreadable"
    assert decide(fault) == Fail(code, fault.message, "do this", retryable, counted=False)
    assert decide(fault, failures=2) == decide(fault)


@pytest.mark.parametrize("code", of(Fate.ATTEMPT))
def test_attempt_s_fault_is_counted_and_tried_again(code: str) -> None:
    fault = Fault(code, "seen")
    assert decide(fault) == Retry(1.0, code, fault.message, fault.hint)
    assert decide(fault, failures=1) == Retry(2.0, code, fault.message, fault.hint)
    assert decide(fault, failures=2) == Fail(code, fault.message, fault.hint, retryable=True, counted=True)
    assert decide(fault, failures=9) == decide(fault, failures=2)


def test_server_s_own_time_is_kept_but_never_shortens_the_wait() -> None:
    assert decide(Fault("engine.timeout", retry_after_s=60.0)) == Retry(
        60.0, "engine.timeout", CODES["engine.timeout"].message, CODES["engine.timeout"].hint
    )
    outcome = decide(Fault("engine.timeout", retry_after_s=0.1), chance=1.0)
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 2.0


def test_one_attempt_is_no_retry() -> None:
    policy = RetryPolicy(1, 2.0, 300.0)
    outcome = decide_outcome(Fault("media.crashed"), failures=0, policy=policy, now=NOW, chance=0.0)
    assert isinstance(outcome, Fail)


@pytest.mark.parametrize("code", of(Fate.ENGINE))
@pytest.mark.parametrize("failures", [0, 99])
def test_engine_s_fault_waits_for_the_engine(code: str, failures: int) -> None:
    assert decide(Fault(code), failures) == Wait(Waiting(WaitReason.ENGINE_PAUSED, None, code))


@pytest.mark.parametrize(("retry_after_s", "wait_s"), [(None, 10), (0.0, 10), (7.5, 7.5), (86_400.0, 86_400)])
def test_throttling_waits_as_long_as_asked(retry_after_s: float | None, wait_s: float) -> None:
    fault = Fault("engine.rate_limited", retry_after_s=retry_after_s)
    until = NOW + timedelta(seconds=wait_s)
    assert decide(fault, 99) == Wait(Waiting(WaitReason.RATE_LIMIT, until, fault.message))


@pytest.mark.parametrize(
    ("code", "reason"), [("output.disk_full", WaitReason.DISK), ("inbox.lost", WaitReason.INBOX_LOST)]
)
def test_what_is_missing_around_us_is_waited_for(code: str, reason: WaitReason) -> None:
    fault = Fault(code, "seen")
    until = NOW + timedelta(seconds=30)
    assert decide(fault, 99) == Wait(Waiting(reason, until, fault.message))


def test_every_wait_was_thought_of() -> None:
    assert set(of(Fate.WAIT)) == {"output.disk_full", "inbox.lost"}


@pytest.mark.parametrize(
    ("fault", "outcome"), [(SourceChanged(), LookAgain()), (SourceVanished("x"), Vanished())]
)
def test_file_that_is_not_the_one_that_settled(fault: Fault, outcome: Outcome) -> None:
    assert decide(fault, 99) == outcome


@pytest.mark.parametrize("code", set(of(Fate.SOURCE)) - {"source.changed", "source.vanished"})
def test_other_reasons_to_look_again_are_told(code: str) -> None:
    assert decide(Fault(code, "seen")) == LookAgain(Fault(code, "seen").message)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kwargs", [{}, {"retry_after_s": 3.0, "maybe_paid": True}])
def test_every_code_has_an_outcome(code: str, kwargs: dict[str, Any]) -> None:
    assert decide(Fault(code, **kwargs)) is not None
