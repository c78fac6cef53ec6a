"""Parts the services' locks into what all of them need, one layer of all images, and what each has alone.

`python deploy/docker/locks.py <common> <lock>...`: rewrites the locks in place; an entry keeps its hashes.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

HEADER = "# Written by ./task lock.\n"


def entries(text: str) -> list[str]:
    """The entries of a lock, each with its marker and hashes."""
    return re.findall(r"^[a-z0-9].*\n(?:    .*\n)*", text, re.MULTILINE)


def main(common: Path, locks: Sequence[Path]) -> None:
    """Write what all locks share to `common` and leave the rest in each."""
    found = [entries(lock.read_text("utf-8")) for lock in locks]
    shared = set.intersection(*map(set, found))
    common.write_text(HEADER + "".join(entry for entry in found[0] if entry in shared), "utf-8")
    for lock, own in zip(locks, found, strict=True):
        lock.write_text(HEADER + "".join(entry for entry in own if entry not in shared), "utf-8")


if __name__ == "__main__":
    first, *rest = map(Path, sys.argv[1:])
    main(first, rest)
