"""Commits of one process to one table go one after the other: a race costs its loser the whole try."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

from pyiceberg.catalog import Catalog

_lock = Lock()
_turns: WeakKeyDictionary[Catalog, dict[str, AbstractContextManager[bool]]] = WeakKeyDictionary()


def turn(catalog: Catalog, table: str) -> AbstractContextManager[bool]:
    """To be held from the look at the table to the answer; other processes are not kept away by it."""
    with _lock:
        return _turns.setdefault(catalog, defaultdict(RLock))[table]
