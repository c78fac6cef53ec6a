"""One bound on the memory of all databases of a process, its sandboxes among them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class MemoryBudget:
    """Gives out megabytes, never more than `total` at once; safe for threads.

    Each holder is sure of its least share; what is left beyond all least shares goes to those who come first.
    A holder that is idle may keep what it has until another one asks for more than is left.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._lock = Lock()
        self._spare = total
        self._reclaim: Callable[[], None] | None = None

    def on_shortage(self, reclaim: Callable[[], None]) -> None:
        """Have `reclaim` give back what idle holders keep, whenever less is left than is asked for."""
        self._reclaim = reclaim

    def least_share(self, holders: int, *, wanted: int) -> int:
        """Set aside a least share for each of so many holders, and return it: `wanted`, or what there is."""
        with self._lock:
            share = max(1, min(wanted, self._spare // holders))
            self._spare -= share * holders
        return share

    def take(self, least: int, most: int) -> int:
        """Return how much one of the holders may use: `least` and as much of the rest as `most` allows.

        A holder that has kept more than its least share names that as `least`.
        """
        taken = least + self._take_spare(most - least)
        if taken < most and self._reclaim is not None:
            self._reclaim()
            taken += self._take_spare(most - taken)
        return taken

    def _take_spare(self, wanted: int) -> int:
        with self._lock:
            more = max(0, min(wanted, self._spare))
            self._spare -= more
        return more

    def give_back(self, taken: int, least: int) -> None:
        """Return what `take` gave for this least share."""
        with self._lock:
            self._spare += taken - least
