"""Every command that a page shows works: executed in the order of the page against a running fleet."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from k2common.testing.generator import asx_files
from k2local.testing import Fleet, running_fleet

from tests.docs.blocks import LANGUAGES, ROOT, Block, blocks_of, pages, text_of

NOT_EXECUTED = {
    r"\bdocker\b": "needs a Docker engine; tests/containers bring the compose file up",
    r"\bkubectl\b": "needs a cluster; tests/structure/test_deployment.py checks the manifests",
    r"^\./task (demo|test)\b": "runs a fleet or all tests of its own; the checks run both",
    r"\brebase\b": "needs new topics; tests/integration/sink/test_topics_recreated.py does it",
    r":8333/": "there is no object store beside this fleet; tests/integration/s3 has one",
}
"""Commands that are checked for their syntax and names alone, each with its reason."""

SHOWN = [
    page for page in pages() if any(block.language in ("sh", "python", "sql") for block in blocks_of(page))
]
TASK = re.compile(r"\./task ([a-z:]+)")
GIVEN = re.compile(r'"(upload_id|session_id)": ?"([0-9A-Z]{26})"')
KEY = re.compile(r"\bk2_([0-9a-f]{8})_")
SECONDS = 120
POLL_SECONDS = 0.2


class Reader:
    """Somebody who follows a page from top to bottom in a folder with the files that it speaks of."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self._folder, self._fleet = folder, fleet
        self._names: dict[str, str] = {}
        self._program: list[Block] = []
        settings = fleet.settings
        self._ports = {str(8001 + n): str(settings.services_port + n) for n in range(5)}
        self._ports["8081"] = str(settings.registry_port)
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("K2_")},
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "K2_HOME": str(settings.home),
            "K2_CACHE": str(settings.cache),
            "K2_BASE_PORT": str(settings.base_port),
            "K2_SERVICES_PORT": str(settings.services_port),
        }
        self._lay_out()

    def follow(self, page: Path) -> None:
        """Execute the page's blocks; a command that fails, or is answered by an error, fails the test.

        Blocks of Python are one program, as in a notebook.
        """
        for block in blocks_of(page):
            self._follow(block)
        if self._program:
            source = self._filled("\n".join(block.text for block in self._program))
            self._done(self._program[0], source, [sys.executable, "-c", source])

    def _follow(self, block: Block) -> None:
        if block.language == "sh":
            for command in block.commands:
                self._execute(block, command)
        elif block.language == "python":
            self._program.append(block)
        elif block.language == "sql":
            body = {"sql": block.text, "symbols": ["BHP"], "start": "2014-03-11", "end": "2014-03-12"}
            answer = self._fleet.call("POST", "query-service", "/v1/sql", json=body)
            assert answer.is_success, f"{block.page.name}:{block.line}: {answer.text}"

    def _execute(self, block: Block, command: str) -> None:
        if any(re.search(pattern, command) for pattern in NOT_EXECUTED):
            self._done(block, command, ["sh", "-n", "-c", command])
            return
        script = f"set -e -o pipefail\n{self._filled(command)}"
        output = self._done(block, command, ["bash", "-c", script])
        # An answer about one thing names it first; the rows of a stream name others.
        given = dict(GIVEN.findall(output)[:1])
        self._names |= given
        self._names |= [("key_id", found) for found in KEY.findall(output)]
        if "upload_id" in given:
            self._fleet.receipt(given["upload_id"])

    def _done(self, block: Block, command: str, argv: list[str]) -> str:
        done = subprocess.run(
            argv,
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        where = f"{block.page.relative_to(ROOT)}:{block.line}"
        assert done.returncode == 0, f"{where}: {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def _filled(self, text: str) -> str:
        """Return the text with this fleet's ports and with what earlier commands have printed."""
        text = re.sub(r"\b(800[1-5]|8081)\b", lambda match: self._ports[match[1]], text)
        urls = ", ".join(
            f"{name}_url={self._fleet.url(service)!r}"
            for name, service in (
                ("gateway", "ingest-gateway"),
                ("query", "query-service"),
                ("replay", "replay-service"),
            )
        )
        text = text.replace("Client()", f"Client({urls})")
        return re.sub(r"\{(upload_id|session_id|key_id)\}", lambda match: self._named(match[1]), text)

    def _named(self, name: str) -> str:
        if name == "upload_id" and name not in self._names:
            self._names[name] = self._fleet.upload(_file(), dataset="trades")["upload_id"]
            self._wait_until_recorded(self._names[name])
        return self._names[name]

    def _wait_until_recorded(self, upload_id: str) -> None:
        """Return when the final receipt is in the tables: its commit follows that of the rows."""
        deadline = time.monotonic() + SECONDS
        while not self._fleet.get("query-service", f"/v1/uploads/{upload_id}/rows/2").is_success:
            assert time.monotonic() < deadline, f"the receipt of {upload_id} is not in the tables"
            time.sleep(POLL_SECONDS)

    def _lay_out(self) -> None:
        (self._folder / "bin").mkdir()
        # Outside of scripts curl shows an error's body and succeeds; here an error is a failure.
        _script(
            self._folder / "bin/curl",
            f'exec {shutil.which("curl")} --fail-with-body --silent --show-error "$@"',
        )
        _script(self._folder / "task", f'exec "{ROOT / "task"}" "$@"')
        shutil.copy(ROOT / ".env.example", self._folder)
        (self._folder / "trades.csv").write_bytes(_file())
        (self._folder / "trades-v2.csv").write_bytes(_file())


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", "utf-8")
    path.chmod(0o755)


def _file() -> bytes:
    """Return trades of a symbol of their own, one of which is refused."""
    symbol = f"D{uuid4().hex[:8].upper()}"
    rows = [f"{1_394_496_000_000_000_000 + n},{symbol},XASX,1{n}.5,100" for n in range(3)]
    return "\n".join(["ts_event_ns,symbol,venue,price,size", *rows, f"1,{symbol},XASX,x,1", ""]).encode()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with running_fleet(tmp_path_factory.mktemp("fleet"), cache) as running:
        for path, content in asx_files(2_000, seed=1).items():
            kind = path.partition("/")[0] if "/" in path else "company-info"
            running.upload(content, layout=f"asx-{kind}", source="asx", filename=Path(path).name)
        yield running


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_work(page: Path, fleet: Fleet, tmp_path: Path) -> None:
    Reader(tmp_path, fleet).follow(page)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_names_its_language_and_is_valid_in_it(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
    # An indented block would not be executed.
    assert re.findall(r"(?<=\n\n) {4,}\S.*", text_of(page)) == []


def test_every_task_that_a_page_names_exists() -> None:
    tasks = yaml.safe_load((ROOT / "Taskfile.yml").read_text("utf-8"))["tasks"]
    named = {name for page in pages() for name in TASK.findall(page.read_text("utf-8"))}
    assert {"up", "logs"} <= named <= tasks.keys()


def test_what_is_not_executed_is_still_shown_somewhere() -> None:
    commands = [c for page in SHOWN for b in blocks_of(page) if b.language == "sh" for c in b.commands]
    unused = [pattern for pattern in NOT_EXECUTED if not any(re.search(pattern, c) for c in commands)]
    assert unused == []
