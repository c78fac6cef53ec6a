"""The secrets that a service signs with: none has a default, and a placeholder serves this machine alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Annotated, TypeAlias

from pydantic import Field, SecretStr

from k2common.errors import SetupError
from k2common.settings.block import Block
from k2common.settings.service import HttpSettings

PLACEHOLDER = "change-me"
SigningSecret: TypeAlias = Annotated[SecretStr, Field(min_length=16, max_length=1024)]
"""Random text, such as 32 bytes in base64; keys are derived from it, one per purpose."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_own_secrets(settings: Block, http: HttpSettings) -> None:
    """Raise SetupError for a secret of `.env.example` in a service that other machines can reach."""
    if is_loopback(http.published_host or http.host):
        return
    if found := sorted(placeholders(settings)):
        raise SetupError(
            f"{', '.join(found)}: a secret that begins with {PLACEHOLDER} is known to all; set another, or "
            "say by K2_HTTP__PUBLISHED_HOST that only this machine reaches the service"
        )


def placeholders(settings: Block, *path: str) -> Iterator[str]:
    """The variables whose secret, or whose half after a colon, is a placeholder."""
    for name, value in settings:
        if isinstance(value, Block):
            yield from placeholders(value, *path, name)
            continue
        held = value.values() if isinstance(value, Mapping) else (value,)
        secrets = (one.get_secret_value() for one in held if isinstance(one, SecretStr))
        if any(
            part.startswith(PLACEHOLDER) for secret in secrets for part in (secret, *secret.split(":", 1))
        ):
            yield f"K2_{'__'.join((*path, name))}".upper()
