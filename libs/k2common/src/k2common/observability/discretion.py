"""What a line of the log must not say: secrets of the settings, and rows that an error's text may quote."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterable
from typing import Any

from k2common.errors import K2Error

MASK = "***"
SHORTEST = 6
"""A shorter secret is no secret, and may be part of any word."""
PASSWORD = re.compile(r"(://[^:/@\s\"']*):[^@/?#\s\"']*@")
"""A user's password in an address."""
OWN = (K2Error, OSError)
"""Errors whose texts are ours or the operating system's, which quote no row."""


def without_passwords(text: str) -> str:
    """The text with every password in an address masked."""
    return PASSWORD.sub(rf"\1:{MASK}@", text)


class Masked:
    """A renderer whose lines hold none of the secrets and no password in an address."""

    def __init__(self, renderer: Any, secrets: Iterable[str]) -> None:
        self._renderer = renderer
        kept = {secret for secret in secrets if len(secret) >= SHORTEST}
        # As it stands, and as it stands in JSON; the longest first, since one may be part of another.
        forms = kept | {json.dumps(secret)[1:-1] for secret in kept}
        self._secrets = sorted(forms, key=len, reverse=True)

    def __call__(self, logger: Any, name: str, event: Any) -> str:
        line: str = self._renderer(logger, name, event)
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        return without_passwords(line) if "://" in line else line


def told(error: BaseException, *, all_texts: bool) -> str:
    """The error with its causes and where each was raised, the first cause first.

    The text of an error that is neither ours nor the operating system's is left out unless `all_texts`.
    """
    parts = []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        parts.append(told(before, all_texts=all_texts))
    text = str(error) if all_texts or isinstance(error, OWN) else "(its text is told at level debug)"
    if isinstance(error, BaseExceptionGroup):
        text = error.message
    kind = type(error)
    parts.append(
        "".join(traceback.format_tb(error.__traceback__)) + f"{kind.__module__}.{kind.__name__}: {text}"
    )
    if isinstance(error, BaseExceptionGroup):
        parts += [told(one, all_texts=all_texts) for one in error.exceptions]
    return "\n\n".join(parts)
