"""API keys in a file: only digests are kept, and a change of the file is seen without a restart.

A key is `k2_<id>_<secret>`; the secret has 256 random bits, so a plain SHA-256 of the key is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from k2common.errors import RecordError, SetupError
from k2common.runtime.clock import Clock

SCOPES = ("read", "ingest", "admin")
POLL_INTERVAL_SECONDS = 1.0
USED = timedelta(days=1)
"""A key counts as used for so long after a request with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key without its secret; `ends_at` is when it stops being accepted, None for never."""

    id: str
    name: str
    scopes: tuple[str, ...]
    sha256: str
    created_at: datetime
    ends_at: datetime | None = None

    def allows(self, scope: str) -> bool:
        """Whether the key has the scope; admin has every one."""
        return scope in self.scopes or "admin" in self.scopes

    def to_json(self) -> Mapping[str, Any]:
        """As it stands in the file."""
        ends = None if self.ends_at is None else self.ends_at.isoformat()
        return {**asdict(self), "created_at": self.created_at.isoformat(), "ends_at": ends}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Key:
        """The key that `to_json` gave."""
        ends = document["ends_at"]
        return cls(
            **{
                **document,
                "scopes": tuple(document["scopes"]),
                "created_at": datetime.fromisoformat(document["created_at"]),
                "ends_at": None if ends is None else datetime.fromisoformat(ends),
            }
        )


class KeyFile:
    """The keys of a file, re-read when it has changed."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        """Raises SetupError for a file that is missing or holds no keys."""
        self._path = path
        self._clock = clock
        self._looked = clock.monotonic()
        self._stamp, self._keys = _read(path)
        self._used: dict[str, datetime] = {}

    def left_seconds(self) -> float | None:
        """Until the first end of a key that was used within a day; None when no such key has one."""
        now = self._clock.now()
        ends = [
            key.ends_at
            for key in self._keys
            if key.ends_at is not None and now - self._used.get(key.id, now - USED) < USED
        ]
        return max(0.0, (min(ends) - now).total_seconds()) if ends else None

    def find(self, text: str) -> Key | None:
        """The key with this text, if it is accepted now; every digest is compared in constant time."""
        self._refresh()
        digest = hashlib.sha256(text.encode()).hexdigest()
        now = self._clock.now()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest) and (key.ends_at is None or now < key.ends_at):
                found = key
        if found is not None:
            self._used[found.id] = now
        return found

    def _refresh(self) -> None:
        if self._clock.monotonic() - self._looked < POLL_INTERVAL_SECONDS:
            return
        self._looked = self._clock.monotonic()
        try:
            if _stamp(self._path) != self._stamp:
                self._stamp, self._keys = _read(self._path)
        except (OSError, SetupError):
            # A file that cannot be read now takes nobody's key away.
            return


def create(path: Path, *, name: str, scopes: Sequence[str], now: datetime) -> str:
    """Add a key and give its text, which is nowhere else.

    Raises RecordError for a scope that does not exist.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise RecordError(f"scopes are {', '.join(SCOPES)}")
    key_id = secrets.token_hex(4)
    text = f"k2_{key_id}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    key = Key(id=key_id, name=name, scopes=tuple(scopes), sha256=digest, created_at=now)
    _write(path, [*listed(path), key])
    return text


def rotate(path: Path, key_id: str, *, grace: timedelta, now: datetime) -> str:
    """A new key with the name and scopes of an old one, which is accepted for `grace` longer.

    Raises RecordError for a key that does not exist.
    """
    old = _known(path, key_id)
    text = create(path, name=old.name, scopes=old.scopes, now=now)
    _end(path, key_id, now + grace)
    return text


def revoke(path: Path, key_id: str, *, now: datetime) -> None:
    """Accept the key no longer.

    Raises RecordError for a key that does not exist.
    """
    _known(path, key_id)
    _end(path, key_id, now)


def listed(path: Path) -> Sequence[Key]:
    """The keys of the file, none where there is no file yet."""
    return _read(path)[1] if path.exists() else ()


def _known(path: Path, key_id: str) -> Key:
    found = next((key for key in listed(path) if key.id == key_id), None)
    if found is None:
        raise RecordError(f"there is no key {key_id}")
    return found


def _end(path: Path, key_id: str, at: datetime) -> None:
    keys = [
        replace(key, ends_at=min(at, key.ends_at or at)) if key.id == key_id else key for key in listed(path)
    ]
    _write(path, keys)


def _write(path: Path, keys: Sequence[Key]) -> None:
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump([key.to_json() for key in keys], file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _read(path: Path) -> tuple[tuple[int, int], Sequence[Key]]:
    try:
        stamp = _stamp(path)
        return stamp, tuple(Key.from_json(entry) for entry in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{path} holds no keys: {error}") from error


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino
