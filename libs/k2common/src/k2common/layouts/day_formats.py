"""Dates by a format of strptime: a day that its month does not have is no date.

Arrow's own strptime turns 31 April into 1 May, and some formats end its process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime

ALIASES = {
    "%D": "%m/%d/%y",
    "%F": "%Y-%m-%d",
    "%R": "%H:%M",
    "%T": "%H:%M:%S",
    "%e": "%d",
    "%h": "%b",
    "%k": "%H",
    "%l": "%I",
    "%n": " ",
    "%t": " ",
}
"""Directives of POSIX that Python lacks, by those that it has."""
EXAMPLE = date(2023, 11, 25)


def parse_days(texts: Iterable[str | None], form: str) -> list[date | None]:
    """Return the date that each text says; None for one that is no date of the format."""
    known = _python_format(form)
    return [None if text is None else _day(text, known) for text in texts]


def format_fault(form: str) -> str | None:
    """Return why no date can be read by the format; None where one can."""
    known = _python_format(form)
    try:
        found = _day(EXAMPLE.strftime(known), known)
    except ValueError:
        found = None
    return None if found == EXAMPLE else f"{form!r} is no format of a whole date"


def _python_format(form: str) -> str:
    return re.sub("%.", lambda found: ALIASES.get(found[0], found[0]), form)


def _day(text: str, form: str) -> date | None:
    if form.isascii() and not text.isascii():
        # Python would take the digits of any script.
        return None
    try:
        return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day has no zone
    except (ValueError, OverflowError, IndexError, KeyError, re.error):
        return None
