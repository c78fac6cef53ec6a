"""Words of our own do not come back where the field has a term."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = (".py", ".md", ".yml", ".yaml", ".toml", ".json", ".avsc")
HISTORY = ("CHANGELOG.md", "tests/observability/recorded/", "tests/structure/test_words.py")
"""What names the old words on purpose, or was recorded with them."""
COINED = {
    r"\bbeg[aiu]ns? anew|\banew\b": "restarted, re-created, again",
    r"\b(is|are|was|were|be|stays|stayed) away\b(?! by)": "unavailable",
    r"K2NeighbourAway": "K2DependencyUnavailable",
    r"\ba neighbour\b|\bneighbours? (is|are|was|that)\b": "dependency",
    r"\b(commit_share|look_seconds|collect_guard_seconds|collect_interval_seconds)\b": "see the changelog",
    r"\b(waiting_queries|waiting_statements)\b": "max_queued_queries, max_queued_statements",
    r"\bclass (Found|Made|Taken|Heard|Asked|Written|Landed|Applied|Survey|Turn|Place)\b": "a noun",
    r"\bclass (Tools|Parts|Upkeep)\b": "…Dependencies",
}
"""A pattern of what is not said, and what is said instead."""


def texts() -> list[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607 - the git of the developer
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = [name for name in listed.stdout.splitlines() if name.endswith(KINDS)]
    kept = [name for name in names if not name.startswith(HISTORY) and (ROOT / name).is_file()]
    return [(name, (ROOT / name).read_text("utf-8")) for name in kept]


@pytest.fixture(scope="module")
def sources() -> list[tuple[str, str]]:
    return texts()


@pytest.mark.parametrize("pattern", COINED)
def test_a_coined_word_is_gone(pattern: str, sources: list[tuple[str, str]]) -> None:
    coined = re.compile(pattern)
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in sources
        for number, line in enumerate(text.splitlines(), start=1)
        if coined.search(line)
    ]
    assert found == [], f"say {COINED[pattern]}"


def test_the_glossary_has_each_term_once_with_one_sentence() -> None:
    lines = (ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|") and "---" not in line]
    entries = [(term.strip(), meaning.strip()) for term, meaning in rows if term.strip() != "term"]
    assert len(entries) >= 60
    assert len({term for term, _ in entries}) == len(entries)
    assert [term for term, meaning in entries if not meaning.endswith(".") or ". " in meaning] == []
