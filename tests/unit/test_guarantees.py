"""docs/guarantees.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__, "../../..").resolve()


def test_every_line_is_proved_by_a_test_that_exists() -> None:
    text = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    assert named <= written, named - written
