"""Asking a server for its list of models: one GET, no redirect followed, nothing sent but the key."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tnfd import __version__

_LONGEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, or 0 and why there was no answer; ``models`` is None where the answer is no such list."""

    status: int
    reason: str = ""
    models: tuple[str, ...] | None = None


Fetch = Callable[[str, str | None, float], Reply]


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect must never carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow none."""


def fetch(url: str, key: str | None, timeout_s: float) -> Reply:
    """GET the list at ``url``; never raises for what a server or a network may do."""
    headers = {"Accept": "application/json", "User-Agent": f"tnfd/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s), as base_url was checked
        with urllib.request.build_opener(_Stay).open(request, timeout=timeout_s) as answer:
            return Reply(answer.status, models=_models(answer.read(_LONGEST_BYTES)))
    except urllib.error.HTTPError as error:
        error.close()
        return Reply(error.code)
    except urllib.error.URLError as error:
        reason = error.reason
        return Reply(0, (reason.strerror if isinstance(reason, OSError) else None) or str(reason))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Reply(0, str(error) or type(error).__name__)


def _models(body: bytes) -> tuple[str, ...] | None:
    try:
        listed = json.loads(body)["data"]
        return tuple(str(model["id"]) for model in listed)
    except (ValueError, TypeError, KeyError):
        return None
