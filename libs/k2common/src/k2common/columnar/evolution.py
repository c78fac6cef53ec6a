"""Whether records that were written with one schema are rows of a table with another, and what they add.

A writer's schema may leave out columns that may be null, and may bring new ones that may be null; whatever
both have is of the same type. Anything else is refused: nothing is converted, and nothing guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from k2common.columnar.arrow import SIMPLE, type_name, unwrap

Field: TypeAlias = Mapping[str, Any]
RESERVED = ("kafka_", "k2_")
NESTED = ("array", "map")


class Unreadable(ValueError):
    """The schema's records are no rows of the table."""


def added(written: Mapping[str, Any], known: Mapping[str, Field]) -> list[Field]:
    """The fields that a writer's schema adds to the `known` ones, by name; all may be null.

    Raises Unreadable for a schema that says anything else about the table's columns.
    """
    if written.get("type") != "record":
        raise Unreadable("the writer's schema is of no record")
    names = {entry["name"]: entry for entry in written["fields"]}
    for name, entry in known.items():
        if name in names:
            _check_same(names[name], entry)
        elif not unwrap(entry["type"])[1]:
            raise Unreadable(f"{name} is not in the writer's schema")
    new = [entry for name, entry in names.items() if name not in known]
    for entry in new:
        _check_new(entry)
    return new


def _check_same(written: Field, known: Field) -> None:
    found, wanted = _plain(written["type"]), _plain(known["type"])
    if found != wanted and not _is_fewer_symbols(found, wanted):
        raise Unreadable(f"{known['name']} is {found} in the writer's schema, {wanted} in the table's")


def _is_fewer_symbols(found: Any, wanted: Any) -> bool:
    if not (isinstance(found, tuple) and isinstance(wanted, tuple) and found[:1] == wanted[:1] == ("enum",)):
        return False
    return set(found[1]) <= set(wanted[1])


def _check_new(entry: Field) -> None:
    name, kind = entry["name"], entry["type"]
    if name.startswith(RESERVED):
        raise Unreadable(f"{name}: names that begin so are the table's own")
    if (
        not isinstance(kind, list)
        or kind[:1] != ["null"]
        or len(kind) != 2
        or entry.get("default", 0) is not None
    ):
        raise Unreadable(f"{name} is new, and not null by default")
    if not _is_column(kind[1]):
        raise Unreadable(f"{name} is new, and {kind[1]} is no type of a column")


def _is_column(kind: Any) -> bool:
    name = type_name(kind)
    if name == "decimal":
        return (kind["precision"], kind["scale"]) == (28, 12)
    if name in NESTED:
        inner = kind["items"] if name == "array" else kind["values"]
        return not isinstance(inner, list) and type_name(inner) not in NESTED and _is_column(inner)
    return name in SIMPLE


def _plain(kind: Any) -> Any:
    """The type without names, docs and defaults, so that equal ones compare equal."""
    if isinstance(kind, list):
        return ("union", *map(_plain, kind))
    if isinstance(kind, str):
        return kind
    if kind["type"] == "enum":
        return ("enum", tuple(kind["symbols"]))
    if kind["type"] == "array":
        return ("array", _plain(kind["items"]))
    if kind["type"] == "map":
        return ("map", _plain(kind["values"]))
    parts = [kind[name] for name in ("logicalType", "precision", "scale", "size") if name in kind]
    return (kind["type"], *parts) if parts else kind["type"]
