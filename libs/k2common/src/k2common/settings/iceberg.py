"""How to reach the Iceberg catalogue and the warehouse."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from k2common.settings.block import Block


class IcebergSettings(Block):
    """Block `K2_ICEBERG__*`."""

    catalog_name: str = Field(
        default="k2",
        min_length=1,
        description="The same in every process: a SQL catalogue keeps tables by it.",
    )
    catalog_type: Literal["sql", "rest"] = Field(default="sql", description="What speaks at the address.")
    catalog_uri: str = Field(min_length=1, description="A SQLAlchemy or an HTTP address, without a password.")
    catalog_password: SecretStr | None = Field(
        default=None, description="Password of the user in the address of a SQL catalogue."
    )
    catalog_credential: SecretStr | None = Field(
        default=None, description="client:secret, with which a REST catalogue gives out tokens (OAuth 2)."
    )
    catalog_token_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Where tokens are asked for; /v1/oauth/tokens below the catalogue if not given.",
    )
    catalog_scope: str | None = Field(
        default=None, min_length=1, description="Scope to ask a token for; none is sent if not given."
    )
    catalog_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="A call of the catalogue that takes longer has failed."
    )
    warehouse: str = Field(min_length=1, description="Folder, bucket or name under which the tables lie.")
    archive: str | None = Field(
        default=None,
        min_length=1,
        description="Where the bytes of uploads are kept; the folder archive of the warehouse if not given.",
    )
    s3_endpoint: str | None = Field(
        default=None, pattern=r"^https?://", description="Address of the object store; AWS's if not given."
    )
    s3_region: str = Field(
        default="us-east-1", min_length=1, description="Region that requests are signed for."
    )
    s3_access_key_id: str | None = Field(default=None, min_length=1, description="Name of the access key.")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="The access key's secret.")
    s3_virtual_hosts: bool = Field(
        default=False, description="The bucket stands in the endpoint's host name, not in the path."
    )
    s3_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="A request of the object store that takes longer has failed."
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

    verdict_seconds: float = Field(
        default=3600.0,
        ge=0,
        le=30 * 86_400,
        description="A data file that was verified is trusted for so long before it is verified again.",
    )

    @model_validator(mode="after")
    def _keys_in_pairs(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("an access key and its secret are given together or not at all")
        return self

    @property
    def on_s3(self) -> bool:
        """Whether files lie in an object store."""
        named = any((place or "").startswith("s3://") for place in (self.warehouse, self.archive))
        return named or self.s3_endpoint is not None or self.s3_access_key_id is not None

    @property
    def archive_root(self) -> str:
        """The location of the archive."""
        return self.archive or f"{self.warehouse.rstrip('/')}/archive"
