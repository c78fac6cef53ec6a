"""Named places where a process ends without warning, or loses an answer: for tests, off unless asked for.

`K2_FAILPOINTS` names places with the share of passes at which it happens: `sink.written=0.05`. A catalogue
loses answers at `catalogue.before` (the commit was not made) and `catalogue.after` (it was).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from random import Random
from typing import Any

from k2common.errors import SetupError
from k2common.iceberg.catalogs.catalog import Catalog

VARIABLE = "K2_FAILPOINTS"
BEFORE, AFTER = "catalogue.before", "catalogue.after"


def parsed(text: str) -> Mapping[str, float]:
    """The shares by name.

    Raises SetupError when the text is not `name=share,…` with shares from 0 to 1.
    """
    try:
        parts = [part.split("=") for part in text.split(",") if part]
        shares = {name: float(share) for name, share in parts}
    except ValueError as error:
        raise SetupError(f"{VARIABLE} is not name=share,...: {text!r}") from error
    if wrong := [name for name, share in shares.items() if not name or not 0 <= share <= 1]:
        raise SetupError(f"{VARIABLE}: the share of {wrong[0]!r} is not a number from 0 to 1")
    return shares


def _shares(text: str) -> Mapping[str, float]:
    # An import cannot fail in one sentence: `check` says at the start of a service what is wrong.
    try:
        return parsed(text)
    except SetupError:
        return {}


def check(environ: Mapping[str, str]) -> None:
    """Raise SetupError when the variable is not what `parsed` takes."""
    parsed(environ.get(VARIABLE, ""))


SHARES = _shares(os.environ.get(VARIABLE, ""))
_random = Random()  # noqa: S311 - draws when to fail


def strikes(name: str) -> bool:
    """Whether it happens at this pass."""
    return name in SHARES and _random.random() < SHARES[name]


def reached(name: str) -> None:
    """End the process by SIGKILL if it is to end here."""
    if strikes(name):
        sys.stderr.write(f"failpoint {name}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def forgetful(catalog: Catalog) -> Catalog:
    """The same catalogue, which loses the answers that are to be lost."""
    if BEFORE not in SHARES and AFTER not in SHARES:
        return catalog
    real = catalog.commit_table

    def commit_table(*arguments: Any) -> Any:
        if strikes(BEFORE):
            sys.stderr.write(f"failpoint {BEFORE}\n")
            raise ConnectionError("the request was lost")
        response = real(*arguments)
        if strikes(AFTER):
            sys.stderr.write(f"failpoint {AFTER}\n")
            raise ConnectionError("the answer was lost")
        return response

    catalog.commit_table = commit_table  # type: ignore[assignment]
    return catalog
