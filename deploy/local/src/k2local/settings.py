"""Where the local stack keeps its state and on which ports it listens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

HOST = "127.0.0.1"


class LocalSettings(BaseModel):
    """State folder, download cache and ports of one local stack; all ports are on the loopback interface."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(description="Folder of data, logs and generated configuration.")
    cache: Path = Field(description="Folder of downloads; several stacks may share it.")
    base_port: int = Field(
        9092, ge=1024, lt=32_700, description="Kafka's port; the next ones are the stack's too."
    )

    services_port: int = Field(
        8001, ge=1024, lt=32_700, description="The first service's port; the others follow in their order."
    )

    store_port: int | None = Field(
        None,
        ge=1024,
        lt=32_700,
        description="The first port of the object store; without one tables and archive are folders.",
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Settings from K2_HOME, K2_CACHE, K2_BASE_PORT, K2_SERVICES_PORT and K2_STORE_PORT."""
        home = Path(environ.get("K2_HOME", ".k2")).resolve()
        given = {
            "base_port": environ.get("K2_BASE_PORT"),
            "services_port": environ.get("K2_SERVICES_PORT"),
            "store_port": environ.get("K2_STORE_PORT"),
        }
        return cls(
            home=home,
            cache=Path(environ.get("K2_CACHE", ".k2/cache")).resolve(),
            **{name: int(value) for name, value in given.items() if value},
        )

    @property
    def kafka_port(self) -> int:
        return self.base_port

    @property
    def controller_port(self) -> int:
        return self.base_port + 1

    @property
    def registry_port(self) -> int:
        return self.base_port + 2

    @property
    def registry_management_port(self) -> int:
        return self.base_port + 3

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.kafka_port}"

    @property
    def registry_url(self) -> str:
        return f"http://{HOST}:{self.registry_port}/apis/ccompat/v7"
