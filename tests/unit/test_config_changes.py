"""What a running daemon has to do about another configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tnfd.config import Config, DaemonConfig, EngineConfig, InboxConfig
from tnfd.config.changes import changes_between

A, B = InboxConfig(Path("/a"), name="a"), InboxConfig(Path("/b"), name="b")
ENGINE = EngineConfig("e", "openai", model="m")
OLD = Config(DaemonConfig(Path("/state")), inboxes=(A, B), engines={"e": ENGINE})


def test_nothing() -> None:
    same = changes_between(OLD, replace(OLD, sources={"daemon.workers": "elsewhere"}))
    assert (same.keys, same.added, same.removed, same.changed) == ((), (), (), ())
    assert (same.engines, same.refused) == (frozenset(), ())


def test_inboxes_are_told_apart_by_their_folder() -> None:
    c = InboxConfig(Path("/c"), name="c")
    changed = replace(A, formats=("md",))
    found = changes_between(OLD, replace(OLD, inboxes=(changed, c)))
    assert (found.added, found.removed, found.changed) == ((c,), (B,), (changed,))
    assert found.keys == ("inbox a.formats", "inbox b", "inbox c")


def test_another_model_of_the_engine_changes_the_inboxes_that_ask_for_it() -> None:
    found = changes_between(OLD, replace(OLD, engines={"e": replace(ENGINE, model="other")}))
    assert found.engines == {"e"}
    assert found.changed == (A, B)
    assert found.keys == ("engines.e.model",)


def test_another_time_limit_of_the_engine_does_not() -> None:
    found = changes_between(OLD, replace(OLD, engines={"e": replace(ENGINE, timeout_s=9.0)}))
    assert found.engines == {"e"}
    assert not found.changed


def test_engines_that_come_and_go() -> None:
    found = changes_between(OLD, replace(OLD, engines={"f": replace(ENGINE, name="f")}))
    assert found.engines == {"e", "f"}
    assert set(found.keys) >= {"engines.e", "engines.f"}


def test_the_state_folder_is_refused() -> None:
    (refused,) = changes_between(OLD, replace(OLD, daemon=DaemonConfig(Path("/other")))).refused
    assert refused.key == "daemon.state_dir"
    assert "restart" in refused.message
