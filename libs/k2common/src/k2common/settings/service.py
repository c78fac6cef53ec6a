"""What every service is told about itself."""

import re
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from k2common.settings.block import Block

HOST = re.compile(r"(\*\.)?[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}|\*")


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
    published_host: str | None = Field(
        None,
        min_length=1,
        description="Address on which a container's port is published, where that is not `host`.",
    )
    port: int = Field(ge=1, le=65535, description="Port to listen on.")
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names and addresses by which clients reach the service beside loopback, by commas; "
        "`*.k2.example` is every name below, `*` is any.",
    )
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
    max_body_bytes: int = Field(
        1024**2,
        ge=1024,
        le=64 * 1024**2,
        description="A longer body is refused with status 413; uploads have a limit of their own.",
    )
    max_bodies: int = Field(
        64, ge=1, le=10_000, description="Bodies read at once; one more is refused with status 429."
    )
    max_bodies_per_caller: int = Field(
        32, ge=1, le=10_000, description="The same for one key, or one address where keys are off."
    )
    body_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="A client sends 16 KiB of a body, or its end, in each such time; else status 408.",
    )
    reader_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="A client takes 64 KiB of an answer in each such time; else its connection is cut.",
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, hosts: object) -> object:
        return tuple(part for part in hosts.split(",") if part.strip()) if isinstance(hosts, str) else hosts

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(host.strip().lower() for host in hosts)
        for host in found:
            if not HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no name or address without scheme and port")
        return found


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
