"""The pictures of the README can be made, and show what the commands say."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

from docs.make_pictures import TARGET, make


def text_of(picture: Path) -> str:
    ElementTree.parse(picture)  # noqa: S314 - our own; what is no XML is no picture
    return unescape(" ".join(re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text()))).replace(
        "\xa0", " "
    )


def test_pictures_are_made_from_the_commands(tmp_path: Path) -> None:
    make(tmp_path)
    jobs, status = text_of(tmp_path / "jobs.svg"), text_of(tmp_path / "status.svg")
    assert "recordings/talk.mp3" in jobs
    assert "media.no_audio" in jobs
    assert "healthy, pid 4711" in status
    assert "engine lan is paused" in status
    for name in ("jobs.svg", "status.svg"):
        drawn = (tmp_path / name).read_text()
        assert str(tmp_path.parent) not in drawn
        assert "url(http" not in drawn  # nothing is fetched by whoever looks at it
        assert (TARGET / name).exists()
        # New columns or labels are drawn anew: make pictures. Moments and money differ.
        assert set(re.findall(r"[A-Z]{3,}", text_of(TARGET / name))) == set(
            re.findall(r"[A-Z]{3,}", text_of(tmp_path / name))
        )
