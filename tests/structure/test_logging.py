"""Messages of the log are constant texts, so that lines can be found and counted; fields hold what varies."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
GIVEN = {"ts", "level", "event", "service", "replica", "request_id", "trace_id", "span_id", "module"}
ROWS = {"row", "rows_text", "raw", "line_text", "value", "values", "payload", "content", "body"}
"""Names that a field with the content of a row would have."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                logger = node.func.value
                is_log = isinstance(logger, ast.Name) and logger.id == "log"
                is_made = isinstance(logger, ast.Call) and getattr(logger.func, "id", "") == "get_logger"
                if (is_log or is_made) and node.func.attr in LEVELS:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_messages_are_constant() -> None:
    found = dict(calls())
    assert len(found) > 20

    def is_constant(call: ast.Call) -> bool:
        return (
            len(call.args) == 1
            and isinstance(call.args[0], ast.Constant)
            and isinstance(call.args[0].value, str)
        )

    assert [place for place, call in found.items() if not is_constant(call)] == []


def test_fields_are_not_those_that_every_line_has_and_hold_no_row() -> None:
    named = [(place, keyword.arg) for place, call in calls() for keyword in call.keywords]
    assert [(place, name) for place, name in named if name in GIVEN | ROWS] == []


def test_logs_are_made_by_one_logger_alone() -> None:
    sources = [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]
    allowed = ROOT / "libs/k2common/src/k2common/observability/logging.py"
    wrong = ("import logging", "from logging", "import structlog", "from structlog", "print(")
    found = [
        (str(path.relative_to(ROOT)), line.strip())
        for path in sources
        if path != allowed
        for line in path.read_text("utf-8").splitlines()
        if line.strip().startswith(wrong)
    ]
    assert found == []
