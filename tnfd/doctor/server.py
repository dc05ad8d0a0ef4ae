"""Asking a server for its list of models: one GET, no redirect followed, nothing sent but the key."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tnfd import __version__
from tnfd.engines.kinds import kind_of
from tnfd.engines.nearby import NotNearby, nearby_addresses

_LONGEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, or 0 and why there was no answer; ``models`` is None where the answer is no such list.

    ``kind``: which program answered, as far as it gives itself away (``engines.kinds``).
    """

    status: int
    reason: str = ""
    models: tuple[str, ...] | None = None
    kind: str = ""


Fetch = Callable[[str, str | None, float, bool], Reply]


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect must never carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow none."""


def _checked(*, nearby: bool) -> list[urllib.request.BaseHandler]:
    """Handlers whose connections go to private addresses alone, and through no proxy."""
    if not nearby:
        return []

    def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        host, port = address
        *others, last = nearby_addresses(host, port)
        for other in others:
            with contextlib.suppress(OSError):
                return socket.create_connection((other, port), *args, **kwargs)
        return socket.create_connection((last, port), *args, **kwargs)

    class Plain(http.client.HTTPConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._create_connection = connect

    class Secure(http.client.HTTPSConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._create_connection = connect

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, request)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, request)

    return [urllib.request.ProxyHandler({}), PlainHandler(), SecureHandler()]


def fetch(url: str, key: str | None, timeout_s: float, nearby: bool) -> Reply:
    """GET the list at ``url``; never raises for what a server or a network may do.

    ``nearby``: from loopback and private addresses alone, checked at the connection.
    """
    headers = {"Accept": "application/json", "User-Agent": f"tnfd/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s), as base_url was checked
        with urllib.request.build_opener(_Stay, *_checked(nearby=nearby)).open(
            request, timeout=timeout_s
        ) as answer:
            body = answer.read(_LONGEST_BYTES)
            kind = kind_of(answer.headers.get("server", ""), body) or ""
            return Reply(answer.status, models=_models(body), kind=kind)
    except urllib.error.HTTPError as error:
        error.close()
        return Reply(error.code, kind=kind_of(error.headers.get("server", ""), None) or "")
    except NotNearby as error:
        return Reply(0, f"local_only: {error}")
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
