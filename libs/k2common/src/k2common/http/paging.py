"""Page tokens: opaque, signed, and they name the version they page through."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from k2common.http.problems import Problem

SIGNATURE_BYTES = 16


def sign(payload: Mapping[str, Any], key: bytes) -> str:
    """A token that only a holder of `key` can make."""
    body = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_signature(body, key) + body).rstrip(b"=").decode()


def verify(token: str, key: bytes) -> Mapping[str, Any]:
    """What was signed.

    Raises Problem 400 for a token that this service did not make.
    """
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        data = b""
    body = data[SIGNATURE_BYTES:]
    if not body or not hmac.compare_digest(data[:SIGNATURE_BYTES], _signature(body, key)):
        raise Problem(HTTPStatus.BAD_REQUEST, "INVALID_PAGE_TOKEN", "page_token was not made by this service")
    payload: Mapping[str, Any] = json.loads(body)
    return payload


def _signature(body: bytes, key: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).digest()[:SIGNATURE_BYTES]
