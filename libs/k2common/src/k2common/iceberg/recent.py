"""What was used last, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values put in or asked for last, at most `limit` of them. Safe for threads."""

    def __init__(self, *, limit: int) -> None:
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._limit = limit
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """The value, or None when it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep the value."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._limit:
                self._values.popitem(last=False)
