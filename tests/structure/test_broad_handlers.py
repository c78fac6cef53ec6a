"""Where an error of any kind is caught, a comment beside it says why, and what becomes of it."""

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROAD = {"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"}
SOURCES = sorted(
    path
    for part in ("libs/*/src", "services/*/src", "deploy/*")
    for folder in ROOT.glob(part)
    for path in folder.rglob("*.py")
    if "tests" not in path.parts
)
MIN_WORDS = 5


def broad_lines(tree: ast.AST) -> Iterator[int]:
    """Lines of handlers, and of calls of `suppress`, that name a base of all errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = [] if node.type is None else [node.type]
            if not caught or BROAD & names(caught):
                yield node.lineno
        elif isinstance(node, ast.Call) and {"suppress"} & names([node.func]) and BROAD & names(node.args):
            yield node.lineno


def names(nodes: list[ast.expr]) -> set[str]:
    found = {inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return found | {
        inner.attr for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Attribute)
    }


def unexplained(path: Path) -> list[int]:
    """Lines without a comment of a few words on them or on the line before."""
    text = path.read_text("utf-8")
    if not any(word in text for word in ("except:", *BROAD)):
        return []
    with path.open("rb") as file:
        comments = {
            token.start[0]: token.string.partition("noqa: BLE001")[2] or token.string
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT
        }
    lines = broad_lines(ast.parse(text))
    return [
        line
        for line in lines
        if max(len(comments.get(at, "").split()) for at in (line - 1, line)) < MIN_WORDS
    ]


def test_every_broad_handler_has_its_reason_beside_it() -> None:
    assert len(SOURCES) > 300
    found = {str(path.relative_to(ROOT)): lines for path in SOURCES if (lines := unexplained(path))}
    assert found == {}


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("try:\n    f()\nexcept Exception:\n    pass\n", [3]),
        ("try:\n    f()\n# Whatever it is, the error goes on.\nexcept BaseException:\n    raise\n", []),
        ("try:\n    f()\nexcept Exception:  # noqa: BLE001\n    pass\n", [3]),
        ("try:\n    f()\nexcept (ValueError, Exception):\n    pass\n", [3]),
        ("try:\n    f()\nexcept:\n    pass\n", [3]),
        ("with suppress(Exception):\n    f()\n", [1]),
        ("try:\n    f()\nexcept ValueError:\n    pass\n", []),
    ],
)
def test_a_handler_without_its_reason_is_found(tmp_path: Path, code: str, lines: list[int]) -> None:
    path = tmp_path / "any.py"
    path.write_text(code)
    assert unexplained(path) == lines
