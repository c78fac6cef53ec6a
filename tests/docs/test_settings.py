"""The reference of the settings is that of the code, and has every variable that anything names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from k2common.settings.load import TOOLS
from k2local.settings import LocalSettings

from tests.docs import settings

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\bK2_[A-Z0-9]+__[A-Z0-9_]+\b")
PLACES = ("docs", "deploy", "docker-compose.yml", ".env.example", "README.md")


def test_the_page_is_that_of_the_code() -> None:
    assert settings.PAGE.read_text("utf-8") == settings.page(), "run ./task docs"


def test_every_setting_has_a_unit_a_default_and_a_sentence() -> None:
    rows = [line.split(" | ") for line in settings.page().splitlines() if line.startswith("| `K2_")]
    for name, unit, default, _, sentence in rows:
        assert unit.strip(), name
        assert default.strip(), name
        assert sentence.strip(" |").endswith("."), name


@pytest.mark.parametrize(
    "name", sorted(TOOLS | {f"K2_{field.upper()}" for field in LocalSettings.model_fields})
)
def test_variables_of_the_local_stack_are_on_the_page(name: str) -> None:
    assert f"| `{name}` |" in settings.page()


def test_whatever_names_a_setting_names_one_that_exists() -> None:
    known = set(VARIABLE.findall(settings.page()))
    listed = subprocess.run(
        ["git", "grep", "-hoE", VARIABLE.pattern.replace(r"\b", ""), "--", *PLACES],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert listed
    assert {name for name in listed if not name.endswith("_")} - known == set()
