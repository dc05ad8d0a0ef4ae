"""Which addresses belong to this machine or its own networks (``[privacy] local_only``). Pure.

Narrower than ``ipaddress.is_private``: no documentation, benchmark or reserved ranges, and nothing shared
(100.64.0.0/10).
"""

from __future__ import annotations

import ipaddress

NETWORKS = (
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
    "::1/128", "fc00::/7", "fe80::/10",
)  # fmt: skip
_PARSED = tuple(ipaddress.ip_network(text) for text in NETWORKS)


def is_nearby(address: str) -> bool:
    """Whether a numeric address is one of these; a zone (``fe80::1%eth0``) does not matter."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # ::ffff:8.8.8.8 connects to 8.8.8.8.
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in _PARSED if network.version == found.version)


def surely_elsewhere(host: str) -> bool:
    """Whether a host is not nearby, by its spelling alone: a public address, a name known to be public.

    Where other names lead is seen when they are resolved.
    """
    host = host.rstrip(".").lower()
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return any(host == name or host.endswith(f".{name}") for name in _ELSEWHERE)
    return not is_nearby(host)


_ELSEWHERE = ("openai.com", "groq.com", "azure.com", "mistral.ai", "huggingface.co")
