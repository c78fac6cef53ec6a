"""Bodies compressed as the client accepts it: zstd before gzip, streams part by part."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette_compress import CompressMiddleware, add_compress_type

from k2common.http.negotiation import MEDIA_TYPES
from k2common.http.problems import MEDIA_TYPE

FASTEST = 1
COMPRESSED_ALREADY = ("parquet",)


def install_compression(app: Starlette) -> None:
    """Compress every answer of 500 bytes or more, but for formats that are compressed already."""
    for name, media_type in MEDIA_TYPES.items():
        if name not in COMPRESSED_ALREADY:
            add_compress_type(media_type)
    add_compress_type(MEDIA_TYPE)
    app.add_middleware(CompressMiddleware, brotli=False, zstd_level=FASTEST, gzip_level=FASTEST)
