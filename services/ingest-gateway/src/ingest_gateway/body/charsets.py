"""The charset of a Content-Type as the encoding of an upload's file."""

from __future__ import annotations

import codecs
from http import HTTPStatus
from typing import get_args

from k2common.http.problems import Problem
from k2common.layouts.model import Encoding, Layout
from python_multipart.multipart import parse_options_header

ASCII = "ascii"
UTF_8 = "utf-8"


def layout_with_charset(layout: Layout, content_type: str, *, is_repair: bool = False) -> Layout:
    """Return the layout with the encoding that `content_type` names, where the layout itself names none.

    ASCII is a part of every encoding and changes nothing; neither does UTF-8 for a repair, whose rejects are
    exported in it. Raises Problem 415 for a charset that cannot be read, or is not the one that the layout
    names.
    """
    charset: bytes | None = parse_options_header(content_type)[1].get(b"charset")
    if charset is None:
        return layout
    wanted = _encoding(charset.decode("latin-1").strip())
    unchanged = {ASCII, _canonical(layout.encoding), *([UTF_8] if is_repair else [])}
    if _canonical(wanted) in unchanged:
        return layout
    if "encoding" in layout.model_fields_set:
        message = f"the body is {wanted} by its Content-Type and {layout.encoding} by layout {layout.name}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "CHARSET_CONFLICT", message)
    return layout.model_copy(update={"encoding": wanted})


def _encoding(charset: str) -> str:
    known: dict[str, str] = {_canonical(name): name for name in (ASCII, *get_args(Encoding))}
    try:
        return known[_canonical(charset)]
    except (LookupError, ValueError) as error:
        message = f"the charset {charset[:40]!r} is not read; {', '.join(get_args(Encoding))} are"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message) from error


def _canonical(name: str) -> str:
    return codecs.lookup(name).name
