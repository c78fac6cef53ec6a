"""Kafka and the registry together: ready on entry, stopped on exit, their data kept in the home folder."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from k2local.jars import install, locked_artifacts
from k2local.kafka import kafka_component
from k2local.process import Process
from k2local.registry import registry_component
from k2local.settings import LocalSettings


class LocalStack:
    """A context manager around the two servers; entering it again starts them with the data they had."""

    def __init__(self, settings: LocalSettings) -> None:
        self.settings = settings
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Bring the servers up, downloading what is missing; returns when all are ready."""
        install(self.settings.cache, locked_artifacts())
        try:
            for make in (kafka_component, registry_component):
                process = Process(make(self.settings))
                self._processes[process.component.name] = process
            for process in self._processes.values():
                process.wait_ready()
        # Also when interrupted: servers that nobody stops would live on.
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Process:
        return self._processes[name]

    def restart(self, name: str) -> None:
        """Kill a server and start it again with the data it had; returns when it is ready."""
        killed = self._processes.pop(name)
        killed.kill()
        process = Process(killed.component)
        self._processes[name] = process
        process.wait_ready()

    def stop(self) -> None:
        """Stop what runs, the last started first."""
        while self._processes:
            _, process = self._processes.popitem()
            process.stop()
