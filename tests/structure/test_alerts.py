"""Every alert has a test that it fires, one that it stays silent, and a runbook whose commands exist."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import blocks_of
from tests.docs.metrics import declared

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
TESTS = ROOT / "tests" / "observability" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
OPERATE = ROOT / "docs" / "guides" / "operate.md"
PROCEDURES = {"kafka-migration.md", "README.md"}
SECTIONS = ["Meaning", "What users notice", "Look", "Likely causes", "Do", "Verify", "Afterwards"]
SERVICES = ("ingest-gateway", "csv-loader", "iceberg-sink", "query-service", "replay-service")
COMPOSED = re.compile(r"docker compose (?:up|ps|port|logs|start|stop|restart|exec)((?: [\w./=-]+)+)")
OF_TARGETS = {"job", "instance", "le"}
SEVERITIES = {"page", "ticket", "info"}


def rules() -> list[Mapping[str, Any]]:
    files = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[Mapping[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def expectations() -> Iterator[Mapping[str, Any]]:
    """Every `alert_rule_test` of the rules' tests."""
    for path in sorted(TESTS.glob("*.yml")):
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            yield from test.get("alert_rule_test", ())


def pages() -> list[Path]:
    return sorted(path for path in RUNBOOKS.glob("*.md") if path.name not in PROCEDURES)


def code() -> str:
    folders = [ROOT / "libs/k2common/src", *(ROOT / "services" / name / "src" for name in SERVICES)]
    return "".join(path.read_text("utf-8") for folder in folders for path in sorted(folder.rglob("*.py")))


def test_every_alert_is_tested_to_fire_with_each_severity_and_to_be_silent() -> None:
    expected = list(expectations())
    fires = {
        (test["alertname"], alert["exp_labels"]["severity"])
        for test in expected
        for alert in test["exp_alerts"]
    }
    silent = {test["alertname"] for test in expected if not test["exp_alerts"]}
    assert fires == {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
    assert silent == {rule["alert"] for rule in alerts()}


def test_every_alert_says_what_is_wrong_how_much_it_matters_and_what_to_do() -> None:
    for rule in alerts():
        name = rule["alert"]
        page = re.sub(r"(?<!^)(?=[A-Z])", "-", name.removeprefix("K2")).lower()
        assert re.fullmatch(r"K2([A-Z][a-z]+)+", name), name
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert rule["annotations"].keys() == {"summary", "runbook"}, name
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{page}.md", name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    told = {ROOT / rule["annotations"]["runbook"] for rule in alerts()}
    assert told == set(pages())


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_a_runbook_has_what_somebody_who_was_woken_needs(page: Path) -> None:
    text = page.read_text("utf-8")
    named = {rule["alert"] for rule in alerts() if rule["annotations"]["runbook"].endswith(f"/{page.name}")}
    assert text.startswith(f"# {named.pop()}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert page.name in (RUNBOOKS / "README.md").read_text("utf-8")


def test_rules_and_runbooks_name_metrics_and_labels_that_exist() -> None:
    known = {metric.name: metric for metrics in declared().values() for metric in metrics}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for path in (*sorted(RULES.glob("*.yml")), *pages(), OPERATE):
        text = path.read_text("utf-8")
        assert set(re.findall(r"\b(?:job|k2|table):k2_[a-z0-9_:]+", text)) <= recorded, path.name
        for name, labels in re.findall(r"(?<![:\w./])(k2_[a-z0-9_]+)(?:\{([^}\n]*)\})?", text):
            metric = known.get(name) or known[re.sub(r"_(bucket|sum|count)$", "", name)]
            allowed = {label.name: label.values for label in metric.labels}
            for label, values in re.findall(r'(\w+)[=!]~?"([^"]*)"', labels):
                if label not in OF_TARGETS:
                    assert not allowed[label] or set(values.split("|")) <= set(allowed[label]), (name, label)


def test_a_runbook_shows_the_board_and_panels_to_look_at() -> None:
    files = [
        json.loads(path.read_text("utf-8")) for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")
    ]
    boards = {
        board["title"].removeprefix("K2 / "): {p.get("title") for p in board["panels"]} for board in files
    }
    for page in pages():
        look = page.read_text("utf-8").split("## Look\n")[1].split("\n## ")[0]
        ((board, panels),) = re.findall(r"^Board \*([^*]+)\*: (.+)\.$", look, re.MULTILINE)
        assert set(re.findall(r"\*([^*]+)\*", panels)) <= boards[board], page.name


def test_what_a_log_is_said_to_say_is_in_the_code() -> None:
    texts = [path.read_text("utf-8") for path in pages()]
    said = {text for page in texts for text in re.findall(r"(?:says|for) `([a-z]+(?: [a-z]+)+)`", page)}
    assert len(said) > 3
    assert [text for text in said if f'"{text}"' not in code()] == []


def instructions() -> list[tuple[str, str]]:
    """Page and text of everything that is set as code in the runbooks and the operator's guide."""
    found = []
    for path in (*pages(), OPERATE):
        text = path.read_text("utf-8")
        blocks = [block.text for block in blocks_of(path)]
        found += [(path.name, part) for part in (*blocks, *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))]
    return found


def endpoints() -> list[str]:
    reference = (ROOT / "docs/reference/query-endpoints.md").read_text("utf-8")
    known = {
        *re.findall(r"\"(/v1/[^\"]*)\"", code()),
        *re.findall(r"^## [A-Z]+ (\S+)", reference, re.MULTILINE),
    }
    return [*known, "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"]


def test_endpoints_in_instructions_exist() -> None:
    patterns = [re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)) for path in endpoints()]
    known = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    asked = [
        (page, path)
        for page, text in instructions()
        for path in re.findall(r"(?::800[1-5]|(?:GET|POST|DELETE) )(/[\w/{}.<>-]*)", text)
    ]
    assert asked
    assert [(page, path) for page, path in asked if not known.fullmatch(path)] == []


def test_tasks_services_settings_and_modules_in_instructions_exist() -> None:
    tasks = yaml.safe_load((ROOT / "Taskfile.yml").read_text("utf-8"))["tasks"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    sources = code()
    for page, text in instructions():
        for task in re.findall(r"\./task ([\w:]+)", text):
            assert task in tasks, (page, text)
        for words in COMPOSED.findall(text):
            named = [word for word in words.split() if not word.startswith("-") and not word.isdigit()]
            assert not named or named[0].partition("=")[0] in services, (page, text)
        for block, field in re.findall(r"K2_([A-Z]+)__([A-Z0-9_]+)", text):
            assert re.search(rf"\b{field.lower()}\b", sources), (page, block, field)
        for module in re.findall(r"python -m ([\w.]+)", text):
            path = module.replace(".", "/")
            assert any(ROOT.glob(f"*/*/src/{path}*")), (page, text)
