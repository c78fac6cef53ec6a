"""Logs are constant text plus fields, one JSON object a line on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from k2common.settings.service import ObservabilitySettings


def configure(settings: ObservabilitySettings, *, service: str, replica: str) -> None:
    """Set up logging for the process; libraries' own log records take the same way."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service, replica=replica)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_without_meta, renderer])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak of what they retry by themselves.
    root.setLevel(max(level, logging.WARNING))


def get_logger(name: str) -> Any:
    """A logger whose lines name the module `name`."""
    return structlog.get_logger(module=name)


def _without_meta(_logger: Any, _name: str, event: Any) -> Any:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(_logger, _name, event)
