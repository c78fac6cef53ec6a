"""The script `task`: words need no `--`, and a .venv that is broken or of another Python is made again."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c "*_base_executable*) echo "$0" ;;
    "-c "*"[:2]"*) echo {version} ;;
    "-c "*"(3, 11)"*) exit {old} ;;
    "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip")
        [ -z "${{NO_NETWORK-}}" ] || exit 1
        touch .venv/bin/uv; chmod +x .venv/bin/uv
        cp tool .venv/bin/task
        ;;
esac
"""
TOOL = """#!/bin/sh
for word in "$@"; do echo "$word"; done
"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "ascii")
    path.chmod(0o755)


def install_python(checkout: Path, version: str, *, old: bool = False) -> None:
    program(checkout / "path" / "python3", PYTHON.format(version=version, old=int(old)))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, a python3 and what pip would install, all but the script played."""
    shutil.copy(ROOT / "task", tmp_path / "task")
    program(tmp_path / "tool", TOOL)
    install_python(tmp_path, "3.12")
    return tmp_path


def task(checkout: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": f"{checkout / 'path'}:/usr/bin:/bin", **environ}
    argv = [str(checkout / "task"), *words]
    return subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["logs", "iceberg-sink"], ["logs", "--", "iceberg-sink"]),
        (["logs", "iceberg-sink", "csv-loader"], ["logs", "--", "iceberg-sink", "csv-loader"]),
        (["logs", "iceberg-sink", "--", "x"], ["logs", "--", "iceberg-sink", "x"]),
        (["logs", "--", "iceberg-sink"], ["logs", "--", "iceberg-sink"]),
        (["logs", "a b", "$HOME", "*"], ["logs", "--", "a b", "$HOME", "*"]),
        (["logs"], ["logs", "--"]),
        (["status", "--output", "json"], ["status", "--", "--output", "json"]),
        (["demo", "--keep"], ["demo", "--", "--keep"]),
        (["test:unit", "--", "-k", "x"], ["test:unit", "--", "-k", "x"]),
        (["check", "test"], ["check", "test"]),
        (["--list"], ["--list"]),
        ([], []),
    ],
)
def test_words_come_through_as_the_docs_print_them(
    checkout: Path, words: list[str], passed: list[str]
) -> None:
    assert task(checkout).returncode == 0
    done = task(checkout, *words)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, passed, "")


def test_a_first_run_without_a_network_leaves_no_part_of_a_venv(checkout: Path) -> None:
    done = task(checkout, "up", NO_NETWORK="1")
    assert done.returncode == 69
    assert "is there a network?" in done.stderr
    assert not (checkout / ".venv").exists()
    assert task(checkout, "up").returncode == 0


def test_a_venv_of_another_python_is_made_again(checkout: Path) -> None:
    task(checkout)
    (checkout / ".venv" / "installed").touch()
    assert "making" not in task(checkout, "up").stdout
    assert (checkout / ".venv" / "installed").exists()
    install_python(checkout, "3.13")
    assert "with Python 3.13" in task(checkout, "up").stdout
    assert not (checkout / ".venv" / "installed").exists()


@pytest.mark.parametrize("name", ["python", "task", "uv"])
def test_a_venv_that_lacks_a_program_is_made_again(checkout: Path, name: str) -> None:
    task(checkout)
    (checkout / ".venv" / "bin" / name).unlink()
    assert "making .venv" in task(checkout, "up").stdout


def test_the_venv_of_a_running_fleet_is_kept(checkout: Path) -> None:
    task(checkout)
    (checkout / ".k2").mkdir()
    (checkout / ".k2" / "supervisor.pid").write_text(str(os.getpid()), "ascii")
    install_python(checkout, "3.13")
    done = task(checkout, "down")
    assert done.stdout == "down\n"
    assert "the fleet runs from it" in done.stderr


def test_a_python_that_is_too_old_is_refused_where_a_venv_has_to_be_made(checkout: Path) -> None:
    task(checkout)
    install_python(checkout, "3.10", old=True)
    assert task(checkout, "up").stdout == "up\n"
    shutil.rmtree(checkout / ".venv")
    done = task(checkout, "up")
    assert (done.returncode, done.stdout) == (78, "")
    assert "Python 3.11 or later is needed" in done.stderr
