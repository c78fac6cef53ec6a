"""Writes the reference of the settings from their classes; `./task docs` runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2local.settings import LocalSettings
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from query_service.settings import QueryServiceSettings
from replay_service.settings import ReplayServiceSettings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
SERVICES: Mapping[str, type[ServiceBlocks]] = {
    "ingest-gateway": IngestGatewaySettings,
    "csv-loader": CsvLoaderSettings,
    "iceberg-sink": IcebergSinkSettings,
    "query-service": QueryServiceSettings,
    "replay-service": ReplayServiceSettings,
}
HEAD = """# Settings

Made from the code by `./task docs`. A service is set by environment variables alone, `K2_<BLOCK>__<FIELD>`; a map or a list is JSON. A variable that no block has, a value out of its bound, or a required one that is missing stops the start with one line and exit code 78. Blocks of other services are passed over, so one environment may serve the whole fleet. Each service logs its settings at its start, secrets masked.
"""  # noqa: E501 - a paragraph is a line
LOCAL = """## Local stack

Read by `./task up`, `down`, `status`, `logs`, `clean` and `demo`. All ports are on the loopback interface. Several stacks run side by side with a home and ports of their own: `K2_HOME=.k2-b K2_BASE_PORT=19092 K2_SERVICES_PORT=18001 ./task up`.
"""  # noqa: E501 - a paragraph is a line
TESTS = """## Tests

| variable | unit | default | bound | |
|---|---|---|---|---|
| `K2_FAILPOINTS` | `name=share,…` | none | a share from 0 to 1 | Named places where a process ends without warning, or loses an answer, with the share of passes at which that happens; every service and every command reads it. Never set it where data matters. |
"""  # noqa: E501 - a row is a line
COLUMNS = ("| variable | unit | default | bound | |", "|---|---|---|---|---|")
UNITS = {
    "per_second": "per second",
    "seconds": "seconds",
    "milliseconds": "milliseconds",
    "days": "days",
    "bytes": "bytes",
    "megabytes": "MB",
    "rows": "rows",
    "port": "port",
    "ratio": "ratio",
    "share": "ratio",
}
KINDS = {"integer": "count", "number": "number", "boolean": "`true`, `false`", "object": "JSON object"}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "`{}`",
}


def blocks() -> Mapping[str, tuple[type[Block], Sequence[str]]]:
    """Return each block with its class and the services that have it, those of all services first."""
    found: dict[str, tuple[type[Block], list[str]]] = {}
    for service, kind in SERVICES.items():
        for name, block in get_type_hints(kind).items():
            if isinstance(block, type) and issubclass(block, Block):
                found.setdefault(name, (block, []))[1].append(service)
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1][1])))


def page() -> str:
    """Return the reference as Markdown."""
    lines = [HEAD]
    for name, (block, services) in blocks().items():
        whose = "every service" if len(services) == len(SERVICES) else ", ".join(services)
        lines += [
            f"## K2_{name.upper()}\n",
            f"Read by {whose}.\n",
            *_table(block, f"K2_{name.upper()}__"),
            "",
        ]
    defaults = LocalSettings.from_environ({})
    given = {"home": _relative(defaults.home), "cache": _relative(defaults.cache)}
    lines += [LOCAL, *_table(LocalSettings, "K2_", given), "", TESTS]
    return "\n".join(lines)


def _relative(path: Path) -> str:
    return f"`{path.relative_to(Path.cwd())}`"


def _table(block: type[BaseModel], prefix: str, defaults: Mapping[str, str] | None = None) -> Iterator[str]:
    yield from COLUMNS
    shapes = block.model_json_schema()["properties"]
    for name, field in block.model_fields.items():
        shape = _inner(shapes[name])
        default = (defaults or {}).get(name) or _default(field)
        cells = (
            f"`{prefix}{name.upper()}`",
            _unit(name, shape),
            default,
            _bound(shape),
            field.description or "",
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _inner(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of the value where there is one; it may be none besides."""
    (inner, *_) = [*shape.get("anyOf", ()), shape]
    return {**shape, **inner}


def _unit(name: str, shape: Mapping[str, Any]) -> str:
    for ending, unit in UNITS.items():
        if name == ending or name.endswith(f"_{ending}"):
            return unit
    if shape.get("format") in ("path", "password"):
        return {"path": "path", "password": "secret"}[shape["format"]]
    return KINDS.get(shape.get("type", ""), "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == {}:
        return "none"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _bound(shape: Mapping[str, Any]) -> str:
    choices = [f"`{value}`" for value in shape.get("enum", ())]
    bounds = [words.format(_number(shape[key])) for key, words in BOUNDS.items() if key in shape]
    return "; ".join([*([", ".join(choices)] if choices else []), *bounds])


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE.name}\n")
