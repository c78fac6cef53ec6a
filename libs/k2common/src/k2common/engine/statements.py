"""What SQL a stranger may run: one SELECT over the named views, by functions and nodes that are listed.

The judge reads the tree that DuckDB's own parser made of the text; what is not listed is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from k2common.engine.functions import FUNCTIONS, TABLE_FUNCTIONS
from k2common.errors import RecordError

NOWHERE = 2**64 - 1
MAX_DEPTH = 200
CTE_NAME = re.compile(r"(?!duckdb_|pg_|sqlite_|pragma_)[a-z_][a-z0-9_]*")
EXPRESSIONS = frozenset(
    (
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "LAMBDA_REF",
        "OPERATOR",
        "PARAMETER",
        "POSITIONAL_REFERENCE",
        "STAR",
        "SUBQUERY",
        "TYPE",
        "WINDOW",
    )
)
NODES = frozenset(
    (
        "SELECT_NODE",
        "SET_OPERATION_NODE",
        "RECURSIVE_CTE_NODE",
        "CTE_NODE",
        "BASE_TABLE",
        "JOIN",
        "SUBQUERY",
        "TABLE_FUNCTION",
        "EXPRESSION_LIST",
        "EMPTY",
        "PIVOT",
        "SHOW_REF",
        "ORDER_MODIFIER",
        "LIMIT_MODIFIER",
        "LIMIT_PERCENT_MODIFIER",
        "DISTINCT_MODIFIER",
        "ORDER_DEFAULT",
        "ASCENDING",
        "DESCENDING",
    )
)
TYPE_INFO = "_TYPE_INFO"


class StatementRefused(RecordError):
    """The text is no statement that may be run; `position` counts characters from 1 where it is known."""

    def __init__(self, message: str, *, position: int | None = None, malformed: bool = False) -> None:
        super().__init__(message)
        self.position = position
        self.malformed = malformed


def refuse_nul(sql: str) -> None:
    """Raise StatementRefused for a NUL: the engine would take the text to end there."""
    if (at := sql.find("\0")) >= 0:
        raise StatementRefused("the statement has a NUL", position=at + 1, malformed=True)


def judged(sql: str, tree: Mapping[str, Any], views: Set[str]) -> Set[str]:
    """Those of the views that the statement reads; `tree` is what `json_serialize_sql` gave for the text.

    Raises StatementRefused.
    """
    if tree["error"]:
        raise _unparsed(tree)
    statements = tree["statements"]
    if len(statements) != 1:
        raise StatementRefused(f"one statement is run at a time, and not {len(statements)}")
    judge = _Judge(sql=sql, views=views)
    judge.walk(statements[0]["node"], frozenset(), 0)
    return judge.found


def position_of(sql: str, offset: Any) -> int | None:
    """Characters from 1 for an offset in bytes, as the tree and the binder count."""
    try:
        at = int(offset)
    except (TypeError, ValueError):
        return None
    data = sql.encode()
    return len(data[:at].decode(errors="replace")) + 1 if 0 <= at <= len(data) else None


def _unparsed(tree: Mapping[str, Any]) -> StatementRefused:
    if tree.get("error_type") == "parser":
        message = str(tree["error_message"])
        at = str(tree.get("position", ""))
        # The parser counts characters, everything after it bytes.
        return StatementRefused(message, position=int(at) + 1 if at.isdigit() else None, malformed=True)
    return StatementRefused(
        "only SELECT is run; nothing is created, changed, set, loaded, attached or exported"
    )


@dataclass(slots=True, kw_only=True)
class _Judge:
    sql: str
    views: Set[str]
    found: set[str] = field(default_factory=set)

    def walk(self, part: Any, names: Set[str], depth: int) -> None:
        """Judge a part of the tree; `names` are the common table expressions that it sees."""
        if depth > MAX_DEPTH:
            raise StatementRefused(f"the statement is nested deeper than {MAX_DEPTH}")
        if isinstance(part, list):
            for item in part:
                self.walk(item, names, depth + 1)
        elif isinstance(part, dict):
            names = self._with_ctes(part, names, depth)
            self._node(part, names)
            for key, value in part.items():
                if key == "function" and part.get("type") == "TABLE_FUNCTION":
                    # Judged as one that gives rows; its arguments are expressions like all others.
                    self.walk(value.get("children"), names, depth + 1)
                elif key != "cte_map":
                    self.walk(value, names, depth + 1)

    def _with_ctes(self, part: Mapping[str, Any], names: Set[str], depth: int) -> Set[str]:
        if part.get("type") == "RECURSIVE_CTE_NODE":
            names = names | {self._cte_name(part["cte_name"])}
        for entry in part.get("cte_map", {}).get("map", ()):
            # Each sees those before it, and itself only where it is recursive.
            self.walk(entry["value"], names, depth + 1)
            names = names | {self._cte_name(entry["key"])}
        return names

    def _cte_name(self, name: str) -> str:
        if CTE_NAME.fullmatch(name.lower()) is None:
            raise StatementRefused(f"a common table expression cannot be named {name!r}")
        return name.lower()

    def _node(self, part: Mapping[str, Any], names: Set[str]) -> None:
        kind = part.get("type")
        if "class" in part:
            if part["class"] not in EXPRESSIONS:
                raise self._refused(part, f"{part['class']} is not allowed")
            if "function_name" in part:
                self._function(part, FUNCTIONS)
        elif isinstance(kind, str) and kind not in NODES and not kind.endswith(TYPE_INFO):
            raise self._refused(part, f"{kind} is not allowed")
        elif kind == "BASE_TABLE":
            self._table(part, names)
        elif kind == "TABLE_FUNCTION":
            self._function(part["function"], TABLE_FUNCTIONS)
        elif kind == "SHOW_REF" and (
            part.get("show_type") not in ("DESCRIBE", "SUMMARY") or "query" not in part
        ):
            raise self._refused(part, "SHOW is not allowed; DESCRIBE and SUMMARIZE are")

    def _table(self, part: Mapping[str, Any], names: Set[str]) -> None:
        name = str(part["table_name"])
        if part.get("schema_name") or part.get("catalog_name"):
            raise self._refused(part, f"{name} is named with a schema; there are none")
        if "at_clause" in part:
            raise self._refused(part, "AT is not allowed; as_of says the version")
        if name.lower() in names:
            return
        if name.lower() not in self.views:
            tables = ", ".join(sorted(self.views))
            raise self._refused(part, f"there is no table {name!r}; there are {tables}")
        self.found.add(name.lower())

    def _function(self, part: Mapping[str, Any], allowed: Set[str]) -> None:
        name = str(part["function_name"])
        if name.lower() not in allowed or part.get("schema", "main") != "main" or part.get("catalog"):
            raise self._refused(part, f"the function {name} is not allowed")

    def _refused(self, part: Mapping[str, Any], message: str) -> StatementRefused:
        return StatementRefused(message, position=position_of(self.sql, _location(part)))


def _location(part: Mapping[str, Any]) -> Any:
    at = part.get("query_location", NOWHERE)
    return None if at == NOWHERE else at
