"""The pages of codes name what the code can answer, no more and no less."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from k2common.layouts import faults
from k2common.settings.iceberg import IcebergSettings

from tests.docs import query_endpoints

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
SERVICES = ("ingest-gateway", "csv-loader", "iceberg-sink", "query-service", "replay-service")
CALLS = ("Problem", "FieldError", "_conflict", "_unusable")
OF_STATUS = {"NOT_FOUND", "METHOD_NOT_ALLOWED"}


def named(page: str) -> set[str]:
    text = (ROOT / "docs" / "reference" / page).read_text("utf-8")
    return {code for code in re.findall(r"`([A-Z][A-Z_]{3,})`", text) if CODE.fullmatch(code)}


def in_code() -> Iterator[str]:
    """Every code that a call makes a problem, a field's error or a failure of."""
    folders = [ROOT / "libs/k2common/src", *(ROOT / "services" / name / "src" for name in SERVICES)]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CALLS:
                values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "code")]
                yield from (v.value for v in values if isinstance(v, ast.Constant) and _is_code(v.value))


def _is_code(value: object) -> bool:
    return isinstance(value, str) and CODE.fullmatch(value) is not None


def test_every_error_code_is_documented_and_every_documented_one_exists() -> None:
    made = set(in_code())
    assert len(made) > 20
    assert made <= named("errors.md")
    text = "".join(
        path.read_text("utf-8")
        for folder in ("libs/k2common/src", "services")
        for path in (ROOT / folder).rglob("src/**/*.py" if folder == "services" else "*.py")
    )
    assert {code for code in named("errors.md") - OF_STATUS if f'"{code}"' not in text} == set()


def test_every_reject_code_is_documented_and_every_documented_one_exists() -> None:
    known = {value for name, value in vars(faults).items() if name.isupper() and name == value}
    assert len(known) == 13
    assert named("rejects.md") == known


def test_every_setting_of_catalogue_and_store_is_documented_and_every_documented_one_exists() -> None:
    page = (ROOT / "docs" / "reference" / "warehouse.md").read_text("utf-8")
    documented = set(re.findall(r"`K2_ICEBERG__([A-Z0-9_]+)`", page))
    assert documented == {name.upper() for name in IcebergSettings.model_fields}


def test_the_reference_of_the_query_endpoints_is_that_of_the_code() -> None:
    assert query_endpoints.PAGE.read_text("utf-8") == query_endpoints.page(query_endpoints.document()), (
        "run ./task docs"
    )
