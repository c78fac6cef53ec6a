"""What an upload is, as claim, chunks and receipt carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSpec:
    """The Avro record UploadSpec, field by field."""

    upload_id: str
    dataset: str
    layout: str
    layout_json: str
    source: str
    bytes: int
    sha256: str
    received_at: datetime
    filename: str | None = None
    symbol: str | None = None
    venue: str | None = None
    asset_class: str | None = None
    currency: str | None = None
    timezone: str | None = None
    on_error: str = "skip_row"
    max_reject_ratio: float | None = None
    replaces: str | None = None
    repairs: str | None = None
    batch: str | None = None
    instruments_version: int | None = None

    @property
    def stem(self) -> str | None:
        """The file's name without folders and its last suffix: what some vendors name an instrument by."""
        return PurePosixPath(self.filename).stem if self.filename else None

    def to_avro(self) -> dict[str, Any]:
        """The fields as the Avro record has them."""
        return asdict(self)

    @classmethod
    def from_avro(cls, record: Mapping[str, Any]) -> Self:
        """The upload that `to_avro` gave."""
        return cls(**record)
