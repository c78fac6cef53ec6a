"""Addresses on this machine, to which no request may go through a proxy."""

from __future__ import annotations

from collections.abc import MutableMapping
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Return whether the URL's host is `localhost`, a name below it, or a loopback address.

    A client of such an address ignores `http_proxy`, `https_proxy` and `all_proxy`, whatever `no_proxy` says:
    a proxy would look for the server on its own machine.
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def exclude_host(environ: MutableMapping[str, str], host: str) -> None:
    """Add the host to `no_proxy` and `NO_PROXY`, for libraries whose proxy only the environment decides."""
    hosts = [name for name in (environ.get("no_proxy") or environ.get("NO_PROXY", "")).split(",") if name]
    if host not in hosts and "*" not in hosts:
        hosts.append(host)
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(hosts)
