"""CI proves the oldest patch release of every minor Python, and names what is missing."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def install(path: Path, version: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n", "ascii")
    path.chmod(0o755)
    return str(path)


def chosen(tmp_path: Path, system: str, *others: str) -> tuple[list[list[str]], str]:
    for version in others:
        install(tmp_path / "pyenv" / "versions" / version / "bin" / "python3", version)
    environ = {
        "PATH": "/usr/bin:/bin",
        "PYENV_ROOT": str(tmp_path / "pyenv"),
        "SYSTEM_PYTHON": install(tmp_path / "python3", system),
    }
    argv = [str(ROOT / ".ci" / "pythons"), "list"]
    done = subprocess.run(argv, env=environ, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [[version, what] for version, _, what in lines], done.stderr


@pytest.mark.parametrize(
    ("system", "others", "expected"),
    [
        (
            "3.11.2",
            ["3.10.13", "3.11.7", "3.12.1", "3.13.0"],
            [["3.11.2", "all"], ["3.12.1", "demo"], ["3.13.0", "unit"]],
        ),
        (
            "3.13.1",
            ["3.11.10", "3.11.9", "3.12.1"],
            [["3.11.9", "all"], ["3.12.1", "demo"], ["3.13.1", "unit"]],
        ),
        ("3.9.1", ["3.12.10", "3.12.9"], [["3.12.9", "all"]]),
        ("3.9.1", [], []),
    ],
)
def test_the_oldest_of_each_minor_is_proved(
    tmp_path: Path, system: str, others: list[str], expected: list[list[str]]
) -> None:
    lines, errors = chosen(tmp_path, system, *others)
    assert lines == expected
    minors = {version.rpartition(".")[0] for version, _ in lines}
    missing = sorted({"3.11", "3.12", "3.13"} - minors)
    assert errors.splitlines() == [
        f"pythons: there is no Python {minor} on this machine" for minor in missing
    ]


def test_the_readme_names_the_pythons_that_ci_proves() -> None:
    script = (ROOT / ".ci" / "pythons").read_text("utf-8")
    (minors,) = (line.split('"')[1].split() for line in script.splitlines() if line.startswith("minors="))
    first = (ROOT / "README.md").read_text("utf-8").partition("```mermaid")[0]
    assert [minor for minor in minors if minor not in first] == []
