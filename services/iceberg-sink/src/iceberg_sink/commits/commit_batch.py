"""What one commit holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from k2common.domain.dead_letters import DeadLetter

from iceberg_sink.batches.batches import WrittenFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Rows and dead letters, and the offsets after them; those may have passed the marks of transactions
    where nothing else came in time.
    """

    offsets: Mapping[int, int]
    written: WrittenFiles = field(default_factory=WrittenFiles)
    letters: Sequence[DeadLetter] = ()
    strays: int = 0
    """So many of the letters are records that belong to no upload."""
    came: bool = False
    """Whether record batches came for it."""

    @property
    def holds_anything(self) -> bool:
        """Whether the table has to hear of it at once."""
        return bool(self.written.files or self.letters)
