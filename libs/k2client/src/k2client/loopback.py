"""Requests to this machine go to it and never through a proxy of the environment."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import httpx


def proxy_options(urls: Sequence[str]) -> dict[str, Any]:
    """Return options of an `httpx.Client` for these base URLs.

    Servers on loopback addresses are asked directly, whatever `http_proxy`, `all_proxy` and `no_proxy` say;
    the others as the environment says. Where all are on loopback the environment is not read at all.
    """
    loopback = [url for url in map(httpx.URL, urls) if _is_loopback(url.host)]
    mounts = {f"all://{url.netloc.decode('ascii')}": None for url in loopback}
    return {"trust_env": len(loopback) < len(urls), "mounts": mounts}


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
