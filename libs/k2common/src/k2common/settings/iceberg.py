"""How to reach the Iceberg catalogue and the warehouse."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, SecretStr

from k2common.settings.block import Block


class IcebergSettings(Block):
    """Block `K2_ICEBERG__*`."""

    catalog_name: str = Field(
        default="k2",
        min_length=1,
        description="The same in every process: a SQL catalogue keeps tables by it.",
    )
    catalog_type: Literal["sql", "rest"] = Field(default="sql", description="What speaks at the address.")
    catalog_uri: str = Field(min_length=1, description="A SQLAlchemy or an HTTP address.")
    warehouse: str = Field(min_length=1, description="Folder, bucket or name under which the tables lie.")
    archive: str | None = Field(
        default=None,
        min_length=1,
        description="Where the bytes of uploads are kept; the folder archive of the warehouse if not given.",
    )
    properties: Mapping[str, SecretStr] = Field(
        default_factory=dict, description="Handed to the catalogue as they are, such as s3.endpoint."
    )
    live_snapshots: int = Field(
        default=30,
        ge=2,
        le=500,
        description="Older snapshots expire; the time of a commit grows with their number.",
    )
    commit_attempts: int = Field(
        default=8, ge=1, le=100, description="A commit gives up after so many lost races or unanswered calls."
    )

    @property
    def archive_root(self) -> str:
        """The location of the archive."""
        return self.archive or f"{self.warehouse.rstrip('/')}/archive"
