"""Is the daemon alive as a whole, and how does it do, in one line. The watchdog and ``status`` ask here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

STALE_S = 120.0  # a heart that has not beaten for this long


def decide_stale(
    now: float, inboxes: Iterable[tuple[str, bool, float]], fed_at: float, stored_at: float, *, stopping: bool
) -> list[str]:
    """Name the parts that have not moved for a while.

    ``inboxes``: name, whether it is lost (a restart would not bring it back), and its last sign of life;
    ``fed_at``: when the dispatcher last asked for work; ``stored_at``: when the database last answered; all
    in monotonic seconds. While it stops, watchers and dispatcher have ended; only the database is judged.
    """
    stale = []
    if not stopping:
        stale += [f"inbox {name}" for name, lost, beat in inboxes if not lost and now - beat > STALE_S]
        if now - fed_at > STALE_S:
            stale.append("dispatcher")
    if now - stored_at > STALE_S:
        stale.append("store")
    return stale


def describe(
    *,
    busy: int,
    workers: int,
    counts: Mapping[str, int],
    inboxes: int,
    lost: int,
    today_usd: float,
    stopping: bool,
) -> str:
    """The line that ``systemctl status`` shows: what it does at this moment, in figures."""
    if stopping:
        return f"stopping; {busy} of {workers} workers finish what they have begun"
    waiting = counts.get("queued", 0) + counts.get("settling", 0)
    parts = [f"{busy} of {workers} workers busy", f"{waiting} waiting", f"{counts.get('done', 0)} done"]
    if counts.get("failed"):
        parts.append(f"{counts['failed']} failed")
    watched = f"{inboxes} inbox{'' if inboxes == 1 else 'es'}"
    parts.append(f"{watched}, {lost} lost" if lost else watched)
    parts.append(f"${today_usd:.2f} today")
    return "; ".join(parts)
