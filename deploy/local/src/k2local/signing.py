"""The secrets with which the local fleet signs: random, made once, kept in its home for its owner alone."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

VARIABLES = (
    "K2_GATEWAY__PAGE_KEY",
    "K2_SINK__PAGE_KEY",
    "K2_QUERY__PAGE_KEY",
    "K2_QUERY__CITATION_KEY",
    "K2_REPLAY__CURSOR_KEY",
)
FILE = "signing-keys.json"
SECRET_BYTES = 32


def signing_environment(home: Path) -> Mapping[str, str]:
    """Return a secret for each signing setting; those of the process's environment come first."""
    kept = _kept(home / FILE)
    return {name: os.environ.get(name) or kept[name] for name in VARIABLES}


def _kept(path: Path) -> Mapping[str, str]:
    if not path.exists():
        _create(path)
    found: Mapping[str, str] = json.loads(path.read_text("utf-8"))
    return found


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({name: secrets.token_urlsafe(SECRET_BYTES) for name in VARIABLES}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link, not a rename: whoever comes second keeps what the first has made.
        path.hardlink_to(part)
    except FileExistsError:
        return
    finally:
        part.unlink()
