"""What one commit makes of a head: pure, since a moved head has it applied again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from k2common.domain.progress import Progress
from k2common.schemas.datasets import Dataset
from k2common.versions.version import Version

from iceberg_sink.uploads.visibility import Commanded, Ranges, TopicProgress, hidden_after


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkChange:
    """Rows up to `offsets`, and what was known of uploads and commands when the commit was proposed.

    The dead letters among them lie below offset `dead_letters` of their topic.
    """

    dataset: Dataset
    epoch: int
    now: datetime
    offsets: Mapping[int, int] = field(default_factory=dict)
    arrived: Mapping[str, Ranges] = field(default_factory=dict)
    redriven: Mapping[str, Ranges] = field(default_factory=dict)
    dead_letters: int = 0
    progress: Mapping[str, Progress] = field(default_factory=dict)
    commanded: Commanded = field(default_factory=Commanded)
    resume: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def __call__(self, head: Version | None) -> Version:
        """The version that follows the head's.

        Raises ValueError when an offset would go back.
        """
        known = head or Version(
            table=self.dataset.table,
            number=0,
            committed_at=self.now,
            schema_id=0,
            epoch=self.epoch,
            offsets={},
        )
        known = replace(known, dead_letters=max(known.dead_letters, self.dead_letters))
        if not self.dataset.visibility:
            return known.successor(now=self.now, offsets=self.offsets, hidden={})
        offsets = {**known.offsets, **self.offsets}
        place = TopicProgress(
            topic=self.dataset.topic.name, epoch=self.epoch, offsets=offsets, ended=known.ended
        )
        hidden = hidden_after(
            known.hidden,
            self.arrived,
            self.progress,
            self.commanded,
            place=place,
            redriven=self.redriven,
        )
        version = known.successor(now=self.now, offsets=self.offsets, hidden=hidden)
        return replace(version, resume={**version.resume, **self.resume})
