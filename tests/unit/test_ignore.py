from __future__ import annotations

import os
import unicodedata

import pytest

from tnfd.rules.ignore import (
    Ignore,
    NameRules,
    Take,
    companions,
    decide_folder,
    decide_name,
    destinations,
    origins,
)

NONE = NameRules()


@pytest.mark.parametrize(
    "name",
    [
        "talk.mp3",
        "TALK.MP3",
        "a.b.c.wav",
        "deep/er/film.MKV",
        "caf\udce9.m4a",
        "talk (2).opus",
        "a.part.mp3",
        "x.ts",
    ],
)
def test_recordings_are_taken(name: str) -> None:
    assert decide_name(os.fsencode(name), NONE) == Take()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("notes.txt", "not_media"),
        ("talk.mp3.status.json", "not_media"),
        ("mp3", "not_media"),
        (".mp3", "hidden"),
        (".talk.mp3.Xy12ab", "hidden"),
        ("._talk.mp3", "hidden"),
        (".stversions/talk.mp3", "hidden"),
        ("a/.b/c/talk.mp3", "hidden"),
        ("~syncthing~talk.mp3.tmp", "temporary"),
        ("~$talk.mp3", "temporary"),
        (".~lock.talk.mp3#", "hidden"),
        *((f"talk.mp3{end}", "temporary") for end in (
            "~", ".!sync", ".part", ".filepart", ".crdownload", ".partial", ".download", ".opdownload",
            ".!qB", ".!ut", ".bc!", ".tmp", ".temp", ".ytdl", ".aria2", ".PART", ".part-Frag12",
        )),
        ("talk.f137.mp4", "temporary"),
        ("talk.f140-drc.m4a", "temporary"),
        ("talk.temp.mp4", "temporary"),
        ("@eaDir/talk.mp3", "system"),
        ("x/#recycle/talk.mp3", "system"),
        ("$RECYCLE.BIN/talk.mp3", "system"),
        ("lost+found/talk.mp3", "system"),
        ("System Volume Information/talk.mp3", "system"),
        ("__MACOSX/talk.mp3", "system"),
        ("Thumbs.db", "system"),
        ("desktop.ini", "system"),
    ],
)  # fmt: skip
def test_what_other_programs_leave_is_not_taken(name: str, reason: str) -> None:
    assert decide_name(os.fsencode(name), NONE) == Ignore(reason)


@pytest.mark.parametrize(
    "name",
    [
        "talk.sync-conflict-20261123-160211-ABCDEFG.mp3",
        "talk (Anna's conflicted copy 2026-11-23).mp3",
        "talk (Case Conflict).mp3",
        "talk (case conflict 1).mp3",
        "talk_conflict-20261123-160211.mp3",
        "talk_Conflict.mp3",
    ],
)
def test_conflict_copies_are_taken_with_a_flag(name: str) -> None:
    assert decide_name(name.encode(), NONE) == Take(("conflict_copy",))


@pytest.mark.parametrize("name", ["talk_conflicts.mp3", "conflict.mp3", "talk.f1.mp3", "talk.temporal.mp3"])
def test_names_that_only_look_like_it_are_plain(name: str) -> None:
    assert decide_name(name.encode(), NONE) == Take()


@pytest.mark.parametrize(
    ("glob", "excluded", "left"),
    [
        ("drafts/**", ["drafts/a.mp3", "drafts/x/a.mp3"], ["a/drafts/a.mp3", "drafts.mp3", "draftsx/a.mp3"]),
        ("drafts", ["drafts/a.mp3", "x/drafts/y/a.mp3"], ["draftsx/a.mp3"]),
        ("drafts/", ["drafts/a.mp3", "x/drafts/a.mp3"], ["drafts.mp3"]),
        ("drafts.mp3/", ["drafts.mp3/a.mp3"], ["drafts.mp3"]),
        ("/drafts", ["drafts/a.mp3"], ["x/drafts/a.mp3"]),
        ("*.wav", ["a.wav", "x/y/A.WAV"], ["a.mp3"]),
        ("/*.wav", ["a.wav"], ["x/a.wav"]),
        ("x/*.wav", ["x/a.wav"], ["x/y/a.wav", "y/x/a.wav"]),
        ("x/**/a.wav", ["x/a.wav", "x/y/z/a.wav"], ["a.wav", "x/b.wav"]),
        ("**/a.wav", ["a.wav", "x/y/a.wav"], ["xa.wav"]),
        ("x/*/z", ["x/y/z/a.mp3"], ["x/z/a.mp3"]),
        ("take?.mp3", ["take1.mp3"], ["take.mp3", "take12.mp3", "take/.mp3"]),
        ("take[0-3].mp3", ["take2.mp3"], ["take5.mp3"]),
        ("take[!0-3].mp3", ["take5.mp3"], ["take2.mp3"]),
        ("a[!x]b.mp3", [], ["a/b.mp3"]),
        ("take[]x].mp3", ["take].mp3", "takex.mp3"], ["takey.mp3"]),
        ("take[z-a].mp3", ["take[z-a].mp3"], ["takeb.mp3"]),
        ("take[.mp3", ["take[.mp3"], ["take.mp3"]),
        (r"\*.mp3", ["*.mp3"], ["a.mp3"]),
        ("a+(b).mp3", ["a+(b).mp3"], ["aab.mp3"]),
        ("", [], ["a.mp3", "x/a.mp3"]),
        ("**", ["a.mp3", "x/a.mp3"], []),
    ],
)
def test_globs_mean_what_they_mean_in_a_gitignore(glob: str, excluded: list[str], left: list[str]) -> None:
    rules = NameRules(exclude=(glob,))
    assert [name for name in excluded if decide_name(name.encode(), rules) != Ignore("excluded")] == []
    assert [name for name in left if decide_name(name.encode(), rules) == Ignore("excluded")] == []


def test_globs_compare_composed_names() -> None:
    rules = NameRules(exclude=(unicodedata.normalize("NFC", "Entwürfe/**"),))
    name = unicodedata.normalize("NFD", "Entwürfe/a.mp3").encode()
    assert decide_name(name, rules) == Ignore("excluded")


def test_include_narrows_and_exclude_wins() -> None:
    rules = NameRules(include=("*.mp3", "meetings"), exclude=("*-old.*",))
    assert decide_name(b"x/a.mp3", rules) == Take()
    assert decide_name(b"meetings/a.wav", rules) == Take()
    assert decide_name(b"a.wav", rules) == Ignore("not_included")
    assert decide_name(b"a-old.mp3", rules) == Ignore("excluded")
    assert decide_name(b"meetings/notes.txt", rules) == Ignore("not_media")


def test_own_folders_are_left_out_only_where_they_are() -> None:
    rules = NameRules(skip_dirs=(b"done", b"x/failed"))
    assert decide_folder(b"done", rules) == Ignore("own_folder")
    assert decide_name(b"done/sub/a.mp3", rules) == Ignore("own_folder")
    assert decide_name(b"x/failed/a.mp3", rules) == Ignore("own_folder")
    assert decide_name(b"x/done/a.mp3", rules) == Take()


def test_an_excluded_folder_is_not_entered_but_one_that_may_hold_others_is() -> None:
    assert decide_folder(b"drafts", NameRules(exclude=("drafts/**",))) == Ignore("excluded")
    assert decide_folder(b"drafts/deep", NameRules(exclude=("drafts/**",))) == Ignore("excluded")
    assert decide_folder(b"drafts", NameRules(exclude=("drafts/*.wav",))) is None
    assert decide_folder(b"drafts", NameRules(exclude=("drafts/",))) == Ignore("excluded")
    assert decide_folder(b"drafts", NameRules(include=("*.mp3",))) is None


def test_companions_stand_beside_the_file() -> None:
    assert companions(b"x/a.mp4") == (b"x/a.mp4.part", b"x/a.mp4.aria2")


@pytest.mark.parametrize(
    ("left", "came", "related"),
    [
        (b"talk.mp3.part", b"talk.mp3", True),
        (b".talk.mp3.Ab3dE9", b"talk.mp3", True),
        (b"a/.talk.mp3.Ab3dE9", b"a/talk.mp3", True),
        (b".syncthing.talk.mp3.tmp", b"talk.mp3", True),
        (b"~syncthing~talk.mp3.tmp", b"talk.mp3", True),
        (b"talk.temp.mp4", b"talk.mp4", True),
        (b"a.b.mp3.part", b"a.b.mp3", True),
        (b"Talk.MP3.part", b"talk.mp3", True),
        (b"work/talk.mp3", b"talk.mp3", True),
        (b"other.mp3.part", b"talk.mp3", False),
        (b"a/talk.mp3.part", b"b/talk.mp3", False),
        (b"talk2.mp3.part", b"talk.mp3", False),
        (b"tmp83a1", b"talk.mp3", False),
        (b"x.talk.mp3.part", b"talk.mp3", False),
    ],
)
def test_which_names_become_which(left: bytes, came: bytes, related: bool) -> None:
    assert origins(left).isdisjoint(destinations(came)) is not related
