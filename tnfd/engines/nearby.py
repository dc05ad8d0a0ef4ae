"""Connections to loopback and private addresses alone (``[privacy] local_only``).

Names are resolved here, and what is connected to is the very address that was checked: a name that leads
elsewhere a moment later changes nothing. Proxies are not used: where they lead cannot be seen.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from tnfd.rules.nearby import is_nearby

if TYPE_CHECKING:
    import httpx2


class NotNearby(Exception):
    """A name or address leads beyond this machine and its private network."""


def nearby_addresses(host: str, port: int) -> list[str]:
    """Resolve a host, blocking; those of its addresses that may be connected to.

    Raises:
        NotNearby: there are others alone.
        OSError: the name leads nowhere.
    """
    return _chosen(host, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _chosen(host: str, found: list[Any]) -> list[str]:
    addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
    nearby = [address for address in addresses if is_nearby(address)]
    if not nearby:
        shown = ", ".join(addresses[:3])
        raise NotNearby(shown if shown == host else f"{host} leads to {shown}")
    return nearby


def nearby_transport(limits: httpx2.Limits) -> httpx2.AsyncBaseTransport:
    """A transport of the HTTP client that goes nowhere else; the class needs its import."""
    import httpx2

    class Nearby(httpx2.AsyncBaseTransport):
        def __init__(self) -> None:
            self._inner = httpx2.AsyncHTTPTransport(limits=limits)

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            url, host = request.url, request.url.host
            port = url.port or (443 if url.scheme == "https" else 80)
            try:
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise httpx2.ConnectError(f"{host}: {error.strerror}", request=request) from error
            addresses = _chosen(host, found)
            # Certificates are checked against the name; the Host header was set from it already.
            request.extensions = {**request.extensions, "sni_hostname": host}
            for address in addresses[:-1]:
                request.url = url.copy_with(host=address)
                try:
                    return await self._inner.handle_async_request(request)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    continue  # nothing was sent
            request.url = url.copy_with(host=addresses[-1])
            return await self._inner.handle_async_request(request)

        async def aclose(self) -> None:
            await self._inner.aclose()

    return Nearby()
