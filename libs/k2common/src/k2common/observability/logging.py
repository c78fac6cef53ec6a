"""Logs are constant text plus fields, one JSON object a line on standard error.

Each line has `ts`, `level`, `event`, `service` and `replica`; `trace_id` and `span_id` inside a span; and
what the task has `bound`, such as `request_id` and `upload_id`. What the settings keep secret stands in no
line, and texts of foreign errors, which may quote a row, only at level debug.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from k2common.observability.discretion import Masked, told
from k2common.observability.tracing import present_ids
from k2common.settings.service import ObservabilitySettings


def configure(
    settings: ObservabilitySettings, *, service: str, replica: str, secrets: Iterable[str] = ()
) -> None:
    """Set up logging for the process; libraries' own log records and what ends it take the same way."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]

    def named(_logger: Any, _name: str, event: Any) -> Any:
        # Not bound to the context, which threads of libraries do not have.
        return {"service": service, "replica": replica, **event, **present_ids()}

    def raised(_logger: Any, _name: str, event: Any) -> Any:
        error = _error_of(event.pop("exc_info", None))
        return (
            event if error is None else {**event, "exception": told(error, all_texts=level <= logging.DEBUG)}
        )

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        named,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        raised,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False, timestamp_key="ts")
    )
    masked = Masked(renderer, secrets)
    structlog.configure(
        processors=[*shared, masked],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_without_meta, masked])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak of what they retry by themselves.
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
    sys.excepthook = _ended
    threading.excepthook = _thread_ended


def get_logger(name: str) -> Any:
    """A logger whose lines name the module `name`."""
    return structlog.get_logger(module=name)


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Each line of this task, and of those that it starts, has these fields."""
    with bound_contextvars(**fields):
        yield


def _error_of(found: Any) -> BaseException | None:
    if isinstance(found, BaseException):
        return found
    if isinstance(found, tuple):
        return found[1] if isinstance(found[1], BaseException) else None
    return sys.exc_info()[1] if found else None


def _ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    get_logger(__name__).critical("the process ends of an error", exc_info=error)


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        get_logger(__name__).error("a thread ended of an error", exc_info=args.exc_value)


def _without_meta(_logger: Any, _name: str, event: Any) -> Any:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(_logger, _name, event)
