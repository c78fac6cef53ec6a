"""The header Content-Digest (RFC 9530): the body is what the client sent, or it is refused."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from http import HTTPStatus

from k2common.http.parameters import invalid
from k2common.http.problems import FieldError, Problem

ENTRY = re.compile(r"\s*(?P<name>[a-z0-9-]+)=:(?P<value>[A-Za-z0-9+/=]*):\s*")
ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}


class ContentDigest:
    """Adds up the bytes of a body as they come, by the algorithms that the header names."""

    def __init__(self, header: str | None) -> None:
        """Raises Problem 400 for a header that names no known algorithm or is malformed."""
        self._expected = {} if header is None else _parsed(header)
        self._digests = {name: hashlib.new(ALGORITHMS[name]) for name in self._expected}

    def update(self, data: bytes) -> None:
        """The next bytes, as they came."""
        for digest in self._digests.values():
            digest.update(data)

    def check(self) -> None:
        """Raise Problem 400 when the body is another one."""
        for name, expected in self._expected.items():
            if not hmac.compare_digest(self._digests[name].digest(), expected):
                raise Problem(
                    HTTPStatus.BAD_REQUEST,
                    "DIGEST_MISMATCH",
                    f"the body does not have the {name} that Content-Digest says",
                )


def _parsed(header: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in header.split(","):
        match = ENTRY.fullmatch(part)
        if match is None:
            raise _malformed(header)
        if match["name"] in ALGORITHMS:
            try:
                found[match["name"]] = base64.b64decode(match["value"], validate=True)
            except binascii.Error as error:
                raise _malformed(header) from error
    if not found:
        raise _malformed(header)
    return found


def _malformed(header: str) -> Problem:
    message = "Content-Digest is sha-256=:<base64>: or sha-512=:<base64>:"
    fault = FieldError(parameter="Content-Digest", code="INVALID", message=message, value=header[:200])
    return invalid([fault])
