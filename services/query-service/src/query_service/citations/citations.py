"""A citation names an answer for good: request, version, number and digest of its rows, signed."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from k2common.columnar.canonical import Digest

DOMAIN = b"k2-citation\x00"
LEFT_OUT = ("as_of", "format", "sorted", "page_token")
"""Parameters that say how an answer is asked for, and not which rows it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """An answer's rows: the version that it was read from, how many, and their digest."""

    version: str | None
    rows: int
    sha256: str


def digest_of(batches: Iterable[pa.RecordBatch]) -> tuple[int, str]:
    """Number and digest of the rows in canonical form; memory holds a block of them."""
    digest, rows = Digest(), 0
    for batch in batches:
        digest.update(pa.table(batch))
        rows += batch.num_rows
    return rows, digest.finish().hex()


def citation(
    *, endpoint: str, parameters: Mapping[str, Any], rows: Rows, software: str, made_at: str, key: bytes
) -> Mapping[str, Any]:
    """The signed document."""
    kept = {name: value for name, value in sorted(parameters.items()) if name not in LEFT_OUT}
    document = {
        "endpoint": endpoint,
        "parameters": {name: value for name, value in kept.items() if value is not None},
        **asdict(rows),
        "software": software,
        "made_at": made_at,
    }
    return {**document, "signature": _signature(document, key)}


def is_genuine(document: Mapping[str, Any], key: bytes) -> bool:
    """Whether the document is one that `citation` made with this key, unchanged."""
    signed = {name: value for name, value in document.items() if name != "signature"}
    # As bytes: what somebody else signed may have any characters.
    given = str(document.get("signature", "")).encode(errors="replace")
    return hmac.compare_digest(given, _signature(signed, key).encode())


def _signature(document: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(key, DOMAIN + text, hashlib.sha256).hexdigest()
