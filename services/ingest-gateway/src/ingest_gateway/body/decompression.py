"""Bodies that come packed: unpacked as they come, in bounded pieces, and never more than is allowed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Protocol

import zstandard
from k2common.http.problems import Problem

GZIP_WINDOW = 31
PIECE_BYTES = 1024 * 1024
ZSTD_INPUT_BYTES = 2048
"""A block of zstd holds up to 128 KiB in a few bytes; so much input cannot become more than some 64 MiB."""


class Unpacker(Protocol):
    """Turns the bytes of a body, in order, into its content."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The content of the next bytes. Raises Problem 400 for bytes that are not of the encoding."""

    def end(self) -> None:
        """Raise Problem 400 unless the content is whole."""


class Plain:
    """A body that is its content."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> None:
        return None


class Gzip:
    """RFC 1952; several members are one content."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP_WINDOW)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(GZIP_WINDOW)
            self._begun = True
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise _broken("gzip", str(error)) from error
            data = self._member.unconsumed_tail or self._member.unused_data
            if piece:
                yield piece

    def end(self) -> None:
        if self._begun and not self._member.eof:
            raise _broken("gzip", "it ends early")


class Zstd:
    """RFC 8878; several frames are one content."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), ZSTD_INPUT_BYTES):
            yield from self._feed(data[at : at + ZSTD_INPUT_BYTES])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            try:
                piece = self._frame.decompress(data)
            except zstandard.ZstdError as error:
                raise _broken("zstd", str(error)) from error
            data = self._frame.unused_data if self._frame.eof else b""
            if piece:
                yield piece

    def end(self) -> None:
        if self._begun and not self._frame.eof:
            raise _broken("zstd", "it ends early")


UNPACKERS: dict[str, type[Plain] | type[Gzip] | type[Zstd]] = {
    "identity": Plain,
    "gzip": Gzip,
    "x-gzip": Gzip,
    "zstd": Zstd,
}
"""By Content-Encoding."""


def _broken(encoding: str, reason: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "BODY_NOT_DECODABLE", f"the body is not {encoding}: {reason}")
