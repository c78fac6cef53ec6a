"""Each key of a JSON object stands once: readers disagree about any other (RFC 8259, 4)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from k2common.http.parameters import invalid
from k2common.http.problems import FieldError

MAX_POINTER_LETTERS = 4096
"""Repeated keys are named until their pointers are longer than this together."""


def refuse_repeated_keys(text: bytes | str) -> None:
    """Raise Problem 400 that names each key that stands twice in one object of a JSON text.

    Any other text passes: whether it has to be JSON is the handler's to say.
    """
    pointers = repeated_keys(text)
    if pointers:
        raise invalid(
            [
                FieldError(parameter=pointer, code="REPEATED", message=f"{pointer} stands more than once")
                for pointer in pointers
            ]
        )


def repeated_keys(text: bytes | str) -> Sequence[str]:
    """Return the JSON pointers of the keys that stand twice in one object; none for what is no JSON."""
    found = False

    def pairs(entries: list[tuple[str, Any]]) -> _Object:
        nonlocal found
        found = found or len({key for key, _ in entries}) < len(entries)
        return _Object(entries)

    try:
        # Numbers of any length are left unread.
        document = json.loads(
            text, object_pairs_hook=pairs, parse_int=_nothing, parse_float=_nothing, parse_constant=_nothing
        )
    except (ValueError, RecursionError):
        return ()
    return _first_of(_pointers(document)) if found else ()


class _Object(tuple[tuple[str, Any], ...]):
    """The entries of an object, also those with equal keys."""

    __slots__ = ()


def _nothing(_: str) -> None:
    return None


def _first_of(pointers: Iterator[str]) -> Sequence[str]:
    named: dict[str, None] = {}
    letters = 0
    for pointer in pointers:
        letters += 0 if pointer in named else len(pointer)
        named[pointer] = None
        if letters > MAX_POINTER_LETTERS:
            break
    return list(named)


def _pointers(document: Any) -> Iterator[str]:
    # Not recursive: a text may be as deep as its parser allows.
    waiting = [("", document)]
    while waiting:
        at, value = waiting.pop()
        inner: list[tuple[str, Any]] = []
        if isinstance(value, _Object):
            counts = Counter(key for key, _ in value)
            inner = [(f"{at}/{_escaped(key)}", entry) for key, entry in value]
            yield from (
                pointer for (pointer, _), (key, _) in zip(inner, value, strict=True) if counts[key] > 1
            )
        elif isinstance(value, list):
            inner = [(f"{at}/{number}", entry) for number, entry in enumerate(value)]
        waiting += reversed(inner)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
