"""What every service is told about itself."""

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from k2common.settings.block import Block


class ServiceSettings(Block):
    """Block `K2_SERVICE__*`."""

    replica: str = Field(
        "0",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Name of this process among its equals; hostname stands for the machine's own.",
    )
    drain_seconds: float = Field(
        20.0, gt=0, le=600, description="After SIGTERM, work in hand is finished within this time."
    )

    @field_validator("replica")
    @classmethod
    def _named(cls, replica: str) -> str:
        return socket.gethostname()[:64] if replica == "hostname" else replica


class HttpSettings(Block):
    """Block `K2_HTTP__*`."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(ge=1, le=65535, description="Port to listen on.")
    keys_file: Path | None = Field(
        None, description="File of API keys; without one nobody is asked for a key."
    )
    allow_anonymous: bool = Field(
        False, description="Serve other machines without keys, where something else keeps strangers out."
    )
    requests_per_second: float = Field(
        0.0, ge=0, le=1e6, description="Of each key or address, on average; 0 is no limit."
    )
    requests_burst: int = Field(100, ge=1, le=1_000_000, description="So many requests may come at once.")


class ObservabilitySettings(Block):
    """Block `K2_OBSERVABILITY__*`."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="One JSON object a line, or for people."
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Collector of spans, OTLP over HTTP; none are made if not given.",
    )
