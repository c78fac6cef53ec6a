"""`python -m k2boards <folder>` writes the dashboards there; a file that no board makes is removed."""

from __future__ import annotations

import sys
from pathlib import Path

from k2boards.boards import files


def write(folder: Path) -> None:
    """The files of `folder` are those of the boards afterwards."""
    made = files()
    for path in folder.glob("*.json"):
        if path.name not in made:
            path.unlink()
    for name, content in made.items():
        (folder / name).write_text(content, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
