"""What was used last, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values put in or asked for last, as many as weigh at most `limit` together. Safe for threads."""

    def __init__(self, *, limit: int, weight: Callable[[Value], int] = lambda _: 1) -> None:
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._limit = limit
        self._weight = weight
        self._weights = 0
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """The value, or None when it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep the value, unless it weighs more than the limit alone."""
        weight = self._weight(value)
        with self._lock:
            if key in self._values:
                self._weights -= self._weight(self._values.pop(key))
            if weight > self._limit:
                return
            self._values[key] = value
            self._weights += weight
            while self._weights > self._limit:
                _, gone = self._values.popitem(last=False)
                self._weights -= self._weight(gone)
