"""File names that hold the SHA-256 of the file's bytes.

A name is the one thing about a file that every Iceberg engine keeps and that nobody changes without writing a
new file. A data file is named `<uuid>-<sha256>-<sha256 of the footer, 32 digits>.parquet`, so that a footer
can be verified without the rows. A manifest and a manifest list have a version 8 UUID (RFC 9562) of 122 bits
of the digest, since some table buckets accept no other names.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass

FOOTER_DIGITS = 32
TAIL_BYTES = 8
"""A Parquet file ends with the length of its footer (4 bytes, little-endian) and `PAR1`."""
_NAMED = re.compile(r"-(?P<whole>[0-9a-f]{64})(?:-(?P<footer>[0-9a-f]{32}))?(?:-[a-z]+)?\.[a-z]+$")
_UUID = re.compile(r"(?P<uuid>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})(-m0)?\.avro$")
DIGEST_VERSION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """What a file's name says of its bytes: SHA-256 in hexadecimal, or the UUID made of it."""

    whole: str | None = None
    footer: str | None = None
    uuid: str | None = None

    def fits(self, digest: bytes) -> bool:
        """Whether a file whose bytes have this SHA-256 is the file that was named."""
        if self.whole is not None:
            return digest.hex() == self.whole
        return str(uuid_of(digest)) == self.uuid

    def fits_footer(self, footer: bytes) -> bool:
        """Whether these are the bytes of the footer, its length and `PAR1`; true where the name has none."""
        return self.footer is None or footer_digest(footer) == self.footer


def digest_in(path: str) -> FileDigest | None:
    """Return the digest in a file's name; None for a file that this project has not named so."""
    name = path.rpartition("/")[2]
    if found := _NAMED.search(name):
        return FileDigest(whole=found["whole"], footer=found["footer"])
    if (found := _UUID.search(name)) and uuid.UUID(found["uuid"]).version == DIGEST_VERSION:
        return FileDigest(uuid=found["uuid"])
    return None


def data_file_name(data: bytes) -> str:
    """Return a new name for a Parquet file of these bytes."""
    return f"{uuid.uuid4()}-{hashlib.sha256(data).hexdigest()}-{footer_digest(footer_bytes(data))}.parquet"


def named_by_digest(data: bytes, suffix: str) -> str:
    """Return a new name for any other file of these bytes, such as `.json`."""
    return f"{uuid.uuid4()}-{hashlib.sha256(data).hexdigest()}{suffix}"


def uuid_of(digest: bytes) -> uuid.UUID:
    """Return the version 8 UUID of the digest's first 128 bits, six of which it gives up."""
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    return uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62)


def footer_bytes(data: bytes) -> bytes:
    """Return the footer of a whole Parquet file, with its length and `PAR1`."""
    return data[-footer_length(data[-TAIL_BYTES:]) :]


def footer_length(tail: bytes) -> int:
    """Return the bytes of a footer with its own eight last ones, by those."""
    return int.from_bytes(tail[:4], "little") + TAIL_BYTES


def footer_digest(footer: bytes) -> str:
    """Return the digits that a name has of a footer."""
    return hashlib.sha256(footer).hexdigest()[:FOOTER_DIGITS]
