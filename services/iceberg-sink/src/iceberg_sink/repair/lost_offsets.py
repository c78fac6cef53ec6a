"""Which offsets of a topic the table should have and has not, within the bounds of its lost files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from k2common.versions.version import Version

from iceberg_sink.repair.upload_evidence import NamedRows

Integers: TypeAlias = "npt.NDArray[np.int64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"


class LostOffsets:
    """A mask over the offsets [first, end) of each partition; one byte per offset.

    Positions of different epochs that are of one log are the same.
    """

    def __init__(self, first: int, end: int, *, head: Version) -> None:
        self.first = first
        self.end = end
        self._head = head
        self._masks: dict[tuple[int, int], Mask] = {}

    def add_named(self, named: NamedRows) -> None:
        """Take the offsets that the statuses and redrives of an upload name, as far as the table is."""
        for span in self._spans(named):
            self._add(*span)

    def remove(self, epochs: Integers, partitions: Integers, offsets: Integers) -> None:
        """Take away positions that the table has, or never will have."""
        for mask, rows, at in self._located(epochs, partitions, offsets):
            mask[at[rows]] = False

    def has(self, epochs: Integers, partitions: Integers, offsets: Integers) -> Mask:
        """Return which of these positions are lost."""
        found = np.zeros(len(offsets), bool)
        for mask, rows, at in self._located(epochs, partitions, offsets):
            found[rows] = mask[at[rows]]
        return found

    def has_any(self, named: NamedRows) -> bool:
        """Return whether a row of the upload is lost."""
        return any(self._part(*span).any() for span in self._spans(named))

    def _spans(self, named: NamedRows) -> Iterator[tuple[int, int, int, int]]:
        """Yield epoch, partition, first and end of what lies within the bounds."""
        bases, ends = named.batches[:, 3], named.batches[:, 3] + named.batches[:, 4]
        near = named.batches[(bases < self.end) & (ends > self.first)]
        for partition, _, epoch, base, count in near.tolist():
            yield epoch, partition, base, base + count
        for epoch, partition, offset in named.moved.values():
            yield epoch, partition, offset, offset + 1

    def _add(self, epoch: int, partition: int, first: int, end: int) -> None:
        head = self._head
        offsets = head.ended.get(epoch, head.offsets) if epoch <= head.epoch else {}
        end = min(end, offsets.get(partition, 0))
        if max(first, self.first) < min(end, self.end):
            key = (self._log(epoch), partition)
            if key not in self._masks:
                self._masks[key] = np.zeros(self.end - self.first, bool)
            self._part(epoch, partition, first, end)[:] = True

    def _part(self, epoch: int, partition: int, first: int, end: int) -> Mask:
        mask = self._masks.get((self._log(epoch), partition))
        if mask is None:
            return np.zeros(0, bool)
        return mask[max(0, first - self.first) : max(0, end - self.first)]

    def _log(self, epoch: int) -> int:
        """Epochs of one log have one number: a log ends with the epoch in which its topic was re-created."""
        return sum(ended < epoch for ended in self._head.ended)

    def _located(
        self, epochs: Integers, partitions: Integers, offsets: Integers
    ) -> Iterator[tuple[Mask, Integers, Integers]]:
        at = offsets - self.first
        inside = (at >= 0) & (offsets < self.end)
        for epoch in np.unique(epochs).tolist():
            for partition in np.unique(partitions).tolist():
                mask = self._masks.get((self._log(epoch), partition))
                if mask is not None:
                    rows = np.flatnonzero(inside & (epochs == epoch) & (partitions == partition))
                    yield mask, rows, at


def columns_of(rows: Any, names: tuple[str, str, str]) -> tuple[Integers, Integers, Integers]:
    """Return three columns as integers; rows without a position come out below every offset."""
    epochs, partitions, offsets = (
        rows[name].combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        for name in names
    )
    return epochs, partitions, offsets


Lost: TypeAlias = Callable[[Integers, Integers, Integers], Mask]
