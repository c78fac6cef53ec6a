"""The fenced blocks of the pages, and the commands in them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*)$")
LANGUAGES = ("sh", "python", "sql", "json", "yaml", "promql", "csv", "mermaid", "text")
"""`sh`, `python` and `sql` are executed; `json` and `yaml` are parsed; the others are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: where it begins, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def commands(self) -> Sequence[str]:
        """The commands of a block of `sh`, each with the lines on which it goes on."""
        found: list[str] = []
        is_open = False
        for line in self.text.splitlines():
            if is_open:
                found[-1] += f"\n{line}"
            elif line.strip() and not line.startswith("#"):
                found.append(line)
            is_open = bool(found) and (found[-1].endswith("\\") or found[-1].count("'") % 2 == 1)
        return found


def pages() -> Sequence[Path]:
    """Return the README and every page of the documentation that the repository holds, in their order."""
    listed = subprocess.run(
        ["git", "ls-files", "README.md", "CONTRIBUTING.md", "docs/**.md", "docs/*.md"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return [ROOT / name for name in sorted(set(listed), key=lambda name: (name.count("/"), name))]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of the page in their order."""
    begin, language, lines = 0, "", list[str]()
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif not begin:
            begin, language, lines = number, fence["language"], []
        else:
            yield Block(page=page, line=begin, language=language, text=dedent("\n".join(lines)))
            begin = 0


def text_of(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
