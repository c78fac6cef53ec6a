"""The lines that the services of a fleet have logged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from k2local.fleet import SERVICES
from k2local.settings import LocalSettings

COMMON = frozenset({"ts", "level", "event", "service", "replica"})
"""Fields that every line has."""


def texts(settings: LocalSettings) -> Mapping[str, str]:
    """All that each service has written."""
    folder = settings.home / "logs"
    return {name: (folder / f"{name}.log").read_text("utf-8") for name in SERVICES}


def lines(settings: LocalSettings) -> list[dict[str, Any]]:
    """Every line of every service.

    Raises ValueError for one that is no JSON object with the fields that all have.
    """
    found = []
    for name, text in texts(settings).items():
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{name} wrote a line that is no JSON: {line[:500]}") from error
            if not isinstance(entry, dict) or not entry.keys() >= COMMON or entry["service"] != name:
                raise ValueError(f"{name} wrote a line without the common fields: {line[:500]}")
            found.append(entry)
    return found
