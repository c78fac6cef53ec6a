"""One bound on the memory of all databases of a process, its sandboxes among them."""

from __future__ import annotations

from threading import Lock


class MemoryBudget:
    """Gives out megabytes, never more than `total` at once; safe for threads.

    Each holder is sure of its least share; what is left beyond all least shares goes to those who come first.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._lock = Lock()
        self._spare = total

    def least_share(self, holders: int, *, wanted: int) -> int:
        """Set aside a least share for each of so many holders, and return it: `wanted`, or what there is."""
        with self._lock:
            share = max(1, min(wanted, self._spare // holders))
            self._spare -= share * holders
        return share

    def take(self, least: int, most: int) -> int:
        """Return how much one of the holders may use: `least` and as much of the rest as `most` allows."""
        with self._lock:
            more = max(0, min(most - least, self._spare))
            self._spare -= more
        return least + more

    def give_back(self, taken: int, least: int) -> None:
        """Return what `take` gave for this least share."""
        with self._lock:
            self._spare += taken - least
