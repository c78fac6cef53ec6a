"""Bodies of multipart/form-data (RFC 7578): one file, and parameters before or after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from k2common.http.problems import Problem
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest_gateway.body.decompression import UNPACKERS, Unpacker

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 64
PACKED = {"application/gzip": "gzip", "application/x-gzip": "gzip", "application/zstd": "zstd"}


class Form:
    """Splits a body as it comes; what it holds beside the file is whole once the body is."""

    def __init__(self, content_type: str) -> None:
        """Raises Problem 400 for a content type without a boundary."""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise _malformed("it names no boundary")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.media = "text/csv"
        self.content_type = ""
        self._parts: list[bytes] = []
        self._files = 0
        self._ended = False
        self._start()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._start,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    async def content(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes of the file.

        Raises Problem 400 for a body that is no form with one file.
        """
        async for data in body:
            try:
                self._parser.write(data)
            except MultipartParseError as error:
                raise _malformed(str(error)) from error
            parts, self._parts = self._parts, []
            for part in parts:
                yield part
        if not self._ended or self._files != 1:
            raise _malformed("it ends early" if not self._ended else f"it has {self._files} files, not one")

    def unpacker(self) -> Unpacker:
        """Unpacks the file by its media type, which is known when its first byte comes."""
        return _ByMedia(self)

    def _start(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._field: bytearray | None = None
        self._field_name = ""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"filename" in options:
            self._files += 1
            self.filename = options[b"filename"].decode("utf-8", "replace") or None
            self.content_type = self._headers.get(b"content-type", b"text/csv").decode("latin-1")
            self.media = self.content_type.partition(";")[0].strip().lower()
            return
        self._field_name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._field_name in self.fields or len(self.fields) >= MAX_FIELDS:
            raise _malformed(f"the field {self._field_name!r} is one too many")
        self._field = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._parts.append(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > MAX_FIELD_BYTES:
            raise _malformed(f"the field {self._field_name!r} is longer than {MAX_FIELD_BYTES} bytes")

    def _part_end(self) -> None:
        if self._field is not None:
            self.fields[self._field_name] = self._field.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True


class _ByMedia:
    def __init__(self, form: Form) -> None:
        self._form = form
        self._chosen: Unpacker | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._chosen is None:
            self._chosen = UNPACKERS[PACKED.get(self._form.media, "identity")]()
        return self._chosen.feed(data)

    def end(self) -> None:
        if self._chosen is not None:
            self._chosen.end()


def _malformed(reason: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "FORM_MALFORMED", f"the body is no form with one file: {reason}")
