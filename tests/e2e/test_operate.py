"""The commands of the operator's guide and of the runbooks do what the pages say, on a running fleet."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from k2local.fleet import SERVICES
from k2local.testing import Fleet

DOCS = Path(__file__).parents[2] / "docs"
OURS = re.compile(r"http://127\.0\.0\.1:(?:800([1-5])|\$port)")
PROBE = "ts_event_ns,symbol,venue,price,size\n1700000000000000000,RUNBOOK,XTST,1.5,10\n"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the pages use curl")


def commands(page: Path) -> Sequence[str]:
    """What a page gives as code and is a command for this machine, without what starts and stops things."""
    text = page.read_text("utf-8")
    blocks = [line.strip() for line in re.findall(r"^ {4,}\S.*$", text, re.MULTILINE)]
    return [
        command
        for command in (*blocks, *re.findall(r"`([^`\n]+)`", text))
        if command.startswith(("printf ", "k2 ")) or OURS.search(command)
    ]


def run(command: str, fleet: Fleet, folder: Path, upload_id: str) -> str:
    urls = [fleet.url(name) for name in SERVICES]
    told = OURS.sub(lambda found: urls[int(found[1]) - 1] if found[1] else "$port", command)
    told = told.replace("8001 8002 8003 8004 8005", " ".join(urls)).replace("{upload_id}", upload_id)
    told = told.replace("curl ", "curl --fail --no-progress-meter ")
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-o", "pipefail", "-c", told],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (told, done.stdout, done.stderr)
    return done.stdout


def test_the_first_ten_things_work(fleet: Fleet, tmp_path: Path) -> None:
    upload_id, answers = "", {}
    for command in commands(DOCS / "guides" / "operate.md"):
        if command.startswith("k2 keys"):
            continue
        answers[command] = run(command, fleet, tmp_path, upload_id)
        if "--data-binary @probe.csv" in command:
            upload_id = json.loads(answers[command])["data"]["upload_id"]
    (ready,) = (answer for command, answer in answers.items() if command.startswith("for "))
    assert [json.loads(line) for line in ready.split("\n") if line] == [{"ready": True, "blocked_by": {}}] * 5
    (seen,) = (answer for command, answer in answers.items() if "symbols=PROBE" in command)
    assert json.loads(seen)["data"][0]["upload_id"] == upload_id


RUNBOOKS = {page.stem: commands(page) for page in sorted((DOCS / "runbooks").glob("*.md"))}


@pytest.mark.parametrize("given", [pytest.param(given, id=name) for name, given in RUNBOOKS.items() if given])
def test_the_commands_of_a_runbook_work(fleet: Fleet, tmp_path: Path, given: Sequence[str]) -> None:
    upload_id = fleet.upload(PROBE.encode(), dataset="trades", source="runbook")["upload_id"]
    for command in given:
        # What takes an upload back, or names a letter that is not there, is refused here.
        if "DELETE" not in command and "redrive" not in command and not command.startswith("k2 "):
            run(command, fleet, tmp_path, upload_id)
