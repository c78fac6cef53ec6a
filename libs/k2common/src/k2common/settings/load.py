"""Settings come from the environment alone, and a variable that nobody knows stops the start."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

from pydantic import SecretStr, ValidationError

from k2common.errors import SetupError
from k2common.settings.block import Block

PREFIX = "K2_"
SEPARATOR = "__"
TOOLS = frozenset(
    {"K2_HOME", "K2_CACHE", "K2_BASE_PORT", "K2_SERVICES_PORT", "K2_STORE_PORT", "K2_FAILPOINTS"}
)
"""Variables of the tools around the services."""

DEPENDENCIES = ("kafka", "registry", "iceberg", "engine", "sandbox", "http", "service", "observability")
SERVICES = ("gateway", "loader", "sink", "maintenance", "gaps", "query", "replay")
BLOCKS = frozenset(DEPENDENCIES + SERVICES)
"""Blocks of all services; one environment may serve the whole fleet."""
PASSWORD = re.compile(r"[^:/@]+://[^:/@]*:([^@]+)@")
"""Of the user in an address."""
TELLING = re.compile(r"secret|password|token|credential|key")
"""Names of properties whose values are secrets; the others are only kept out of the log of the settings."""

Settings = TypeVar("Settings", bound=Block)


def load(kind: type[Settings], environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`: field `f` of block `b` is `K2_<B>__<F>`; a map or a list is JSON.

    Blocks of other services are passed over. Raises SetupError, in one sentence per fault, for a variable
    that is misspelt, missing or out of bounds.
    """
    blocks = {name: block for name, block in get_type_hints(kind).items() if _is_block(block)}
    known = {_variable(b, f): (b, f) for b, block in blocks.items() for f in block.model_fields}
    others = tuple(f"{PREFIX}{block}{SEPARATOR}".upper() for block in BLOCKS - blocks.keys())
    given = {name for name in environ if name.startswith(PREFIX) and not name.startswith(others)} - TOOLS
    if unknown := sorted(given - known.keys()):
        raise SetupError("; ".join(_misspelt(name, known) for name in unknown))
    values: dict[str, dict[str, Any]] = {name: {} for name in blocks}
    for name in given:
        block, field = known[name]
        values[block][field] = _value(name, environ[name])
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SetupError("; ".join(_fault(entry) for entry in error.errors())) from error


def effective(settings: Block) -> dict[str, Any]:
    """Every field and its value, for the log; secrets are masked."""
    return {
        name: effective(value)
        if isinstance(value, Block)
        else str(value)
        if isinstance(value, SecretStr)
        else value
        for name, value in settings
    }


def secrets(settings: Block) -> Iterator[str]:
    """What no line of the log may hold: each secret, the halves of a credential, passwords in addresses."""
    for _, value in settings:
        if isinstance(value, Block):
            yield from secrets(value)
        elif isinstance(value, SecretStr):
            yield from (value.get_secret_value(), value.get_secret_value().partition(":")[2])
        elif isinstance(value, Mapping):
            yield from (
                secret.get_secret_value()
                for key, secret in value.items()
                if isinstance(secret, SecretStr) and TELLING.search(key)
            )
        elif isinstance(value, str) and (found := PASSWORD.match(value)):
            yield found.group(1)


def _is_block(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Block)


def _variable(block: str, field: str) -> str:
    return f"{PREFIX}{block}{SEPARATOR}{field}".upper()


def _value(name: str, text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise SetupError(f"{name}: not JSON: {error}") from error


def _misspelt(name: str, known: Mapping[str, Any]) -> str:
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{name} is no setting of this service" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _fault(entry: Any) -> str:
    where = [str(part) for part in entry["loc"]]
    return f"{_variable(where[0], SEPARATOR.join(where[1:]))}: {entry['msg']}"
