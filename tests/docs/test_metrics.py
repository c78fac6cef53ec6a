"""The reference of the metrics is that of the code, and every metric is declared by the rules of names."""

import ast
import re
from pathlib import Path

import pytest
from k2common.observability.metrics import CollectorRegistry, Declared
from k2common.runtime.metrics import PART, PROCESS
from prometheus_client import ProcessCollector

from tests.docs import metrics

ROOT = Path(__file__).parents[2]
DECLARATIONS = ROOT / "libs/k2common/src/k2common/observability/metrics.py"
ALL = [(service, metric) for service, found in metrics.declared().items() for metric in found]
K2 = [metric for _, metric in ALL if metric.name.startswith("k2_")]
IRREGULAR = {"held", "hidden", "kept", "left", "redriven", "run", "taken", "written"}
STATES = {"free", "info", "receiving", "running", "unfinished", "waiting"}
NEVER = {"symbol", "upload_id", "user", "key", "path", "query", "file", "line", "venue", "session"}


def sources() -> list[Path]:
    return [*(ROOT / "libs").glob("*/src/**/*.py"), *(ROOT / "services").glob("*/src/**/*.py")]


def test_the_reference_is_that_of_the_code() -> None:
    assert metrics.PAGE.read_text("utf-8") == metrics.page(metrics.declared()), "run ./task docs"


def test_no_metric_is_made_without_a_declaration() -> None:
    made = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
    for path in set(sources()) - {DECLARATIONS}:
        tree = ast.parse(path.read_text("utf-8"))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client")
            for alias in node.names
        }
        assert not imported & made, path


@pytest.mark.parametrize("metric", K2, ids=lambda metric: metric.name)
def test_a_name_says_what_became_of_what_in_which_unit(metric: Declared) -> None:
    words = metric.name.removeprefix("k2_").split("_")
    assert re.fullmatch(r"k2(_[a-z]+)+", metric.name)
    assert (words[-1] == "total") == (metric.kind == "counter")
    assert any(word.endswith("ed") or word in IRREGULAR | STATES for word in words), metric.name
    assert not {"count", "sum", "bucket"} & set(words)


@pytest.mark.parametrize("metric", K2, ids=lambda metric: metric.name)
def test_a_label_has_few_values_that_are_known_beforehand(metric: Declared) -> None:
    series = 1
    for label in metric.labels:
        assert label.name not in NEVER
        assert bool(label.values) != bool(label.bound), label
        assert len(set(label.values)) == len(label.values)
        series *= max(1, len(label.values))
    assert series <= 100


def test_a_metric_says_when_to_look_at_it() -> None:
    for _, metric in ALL:
        assert metric.meaning.endswith("."), metric.name
        assert metric.look.endswith("."), metric.name


def test_a_name_stands_for_one_thing() -> None:
    names = [metric.name for _, metric in ALL]
    assert sorted(set(names)) == sorted(names)


def test_what_the_process_says_is_listed() -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    given = {sample.name for family in registry.collect() for sample in family.samples}
    assert given == {metric.name for metric in PROCESS}


def test_the_parts_that_readiness_names_are_listed() -> None:
    named = re.compile(r"^(?:PART|FOLLOWING|START) = \"([^\"]+)\"$", re.MULTILINE)
    found = {name for path in sources() for name in named.findall(path.read_text("utf-8"))}
    assert found == set(PART.values)


def test_every_service_links_to_the_reference() -> None:
    for service in metrics.declared():
        anchor = service.lower().replace(" ", "-")
        pages = [ROOT / "docs/services" / f"{name}.md" for name in metrics.SERVICES]
        linking = [page for page in pages if f"metrics.md#{anchor})" in page.read_text("utf-8")]
        assert linking, service
