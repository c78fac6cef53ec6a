"""A whole file, parsed chunk by chunk as it would be on its way through the topics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from k2common.layouts.cutter import CHUNK_BYTES, CutPosition, Header, cut
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.parser import ParsedChunk, parse
from k2common.layouts.upload import UploadSpec


def parsed_chunks(
    file: BinaryIO,
    header: Header | None,
    *,
    layout: Layout,
    spec: UploadSpec,
    instruments: InstrumentIndex | None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[ParsedChunk]:
    """Yield what `parse` makes of each chunk; holds one in memory.

    Raises UnparseableError when the layout cannot read the file, RecordError for a record that is too long.
    """
    # A file without a record, where the layout has a header, is blank lines and a byte order mark at most.
    if header is None and layout.header:
        return
    start = header.after if header else CutPosition()
    for chunk in cut(file, start, delimiter=layout.delimiter, chunk_bytes=chunk_bytes):
        yield parse(
            chunk.payload,
            layout=layout,
            header=header.text if header else None,
            first_byte=chunk.start.byte,
            first_line=chunk.start.line,
            spec=spec,
            instruments=instruments,
        )
