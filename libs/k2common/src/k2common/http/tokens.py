"""Signed tokens: each names its purpose by its key, and holds a payload of one shape.

The key of a purpose is HKDF-SHA256 (RFC 5869) of the service's secret with the purpose as `info`, so that a
token made for one endpoint is nothing to another, and neither is the key of one to that of another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from http import HTTPStatus
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from k2common.http.problems import Problem

SALT = b"k2 signing keys v1"
KEY_BYTES = 32
SIGNATURE_BYTES = 16
Payload = TypeVar("Payload")


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return the 32 bytes that sign for `purpose`."""
    return hkdf_sha256(secret, salt=SALT, info=purpose.encode(), length=KEY_BYTES)


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """Extract and expand `length` bytes, at most 255 * 32, as RFC 5869 says."""
    key = hmac.digest(salt or bytes(hashlib.sha256().digest_size), secret, "sha256")
    block = output = b""
    counter = 0
    while len(output) < length:
        counter += 1
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


class TokenMaker(Generic[Payload]):
    """Makes and reads the tokens of one purpose; `shape` is their payload's type, a frozen dataclass."""

    def __init__(self, secret: bytes, *, purpose: str, shape: type[Payload]) -> None:
        self._key = derive_key(secret, purpose)
        self._shape = TypeAdapter(shape)

    def make(self, payload: Payload) -> str:
        """Return the token of the payload."""
        body = self._shape.dump_json(payload)
        return base64.urlsafe_b64encode(self._signature(body) + body).rstrip(b"=").decode()

    def read(self, token: str) -> Payload:
        """Return the payload.

        Raises Problem 400 for a token that was not made for this purpose, or has another shape.
        """
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            data = b""
        body = data[SIGNATURE_BYTES:]
        if not body or not hmac.compare_digest(data[:SIGNATURE_BYTES], self._signature(body)):
            raise _invalid("the token was not made by this endpoint")
        try:
            return self._shape.validate_json(body, strict=True)
        except ValidationError as error:
            raise _invalid("the token has not the form of this version's tokens") from error

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:SIGNATURE_BYTES]


def _invalid(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "INVALID_PAGE_TOKEN", detail)
