"""A page of an answer in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows as JSON texts, the symbols of the rows, and where the next page goes on; None at the end."""

    lines: Sequence[str]
    next_key: Sequence[Any] | None
    symbols: frozenset[str] = frozenset()


def page_json(page: Page, *, token: str | None, meta: Mapping[str, Any]) -> bytes:
    """The envelope around a page; the rows are JSON already."""
    head = '{"data":[' + ",".join(page.lines)
    rest = json.dumps({"next_page_token": token, "meta": meta}, separators=(",", ":"))
    return f"{head}],{rest[1:]}".encode()
