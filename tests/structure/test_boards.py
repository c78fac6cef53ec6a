"""The dashboards are those of the code, and ask for nothing that no service declares."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from k2boards.board import Board, Choice, Panel, Words
from k2boards.boards import BOARDS, files

from tests.docs import metrics
from tests.observability.expressions import OWN, family, grouped_by, matched_by, metrics_of

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
RULES = ROOT / "deploy" / "prometheus" / "rules"
SCRAPED = {"up": OWN - {"le"}, "ALERTS": {"alertname", "alertstate", "severity"}}
"""Series that Prometheus itself makes."""
DECLARED = {
    metric.name: {label.name for label in metric.labels} | OWN
    for found in metrics.declared().values()
    for metric in found
} | SCRAPED
QUERIES = [(board, panel, query) for board in BOARDS for panel in board.panels for query in panel.queries]
NAMES = [f"{board.uid}: {panel.title}: {query.legend}" for board, panel, query in QUERIES]


def recorded() -> set[str]:
    rules = "".join(path.read_text("utf-8") for path in RULES.glob("*.yml"))
    return set(re.findall(r"record: *(\S+)", rules))


def test_the_dashboards_are_those_of_the_code() -> None:
    found = {path.name: path.read_text("utf-8") for path in DASHBOARDS.iterdir()}
    assert found == files(), "run ./task docs"


@pytest.mark.parametrize("expression", [query.expr for _, _, query in QUERIES], ids=NAMES)
def test_a_query_names_declared_metrics_and_labels(expression: str) -> None:
    named = metrics_of(expression)
    assert named
    own = {family(name) for name in named - recorded()}
    assert own <= DECLARED.keys()
    for name, labels in matched_by(expression).items():
        if name not in recorded():
            assert labels <= DECLARED[family(name)]
    if named <= recorded():
        return
    assert grouped_by(expression) <= set.union(*(DECLARED[name] for name in own))


def test_every_declared_metric_is_on_a_board() -> None:
    shown = {family(name) for _, _, query in QUERIES for name in metrics_of(query.expr)}
    assert DECLARED.keys() <= shown


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_a_board_says_what_it_shows_and_uses_what_it_asks_for(board: Board) -> None:
    panels: Sequence[Panel | Words] = [panel for row in board.rows for panel in row.panels]
    titles = [panel.title for row in board.rows for panel in row.panels]
    assert len({(row.title, panel.title) for row in board.rows for panel in row.panels}) == len(titles)
    assert all(panel.description.endswith(".") for panel in board.panels)
    text = "".join(
        panel.content + panel.title if isinstance(panel, Words) else "".join(q.expr for q in panel.queries)
        for panel in panels
    )
    used = set(re.findall(r"\$\{?(?!__)([a-z]+)\}?", text))
    assert used == {variable.name for variable in board.variables}
    for variable in board.variables:
        if isinstance(variable, Choice):
            assert variable.name in DECLARED[variable.metric]
