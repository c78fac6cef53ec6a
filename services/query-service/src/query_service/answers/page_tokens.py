"""The page tokens of this service: one purpose for each way in which answers are divided into pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from k2common.http.tokens import TokenMaker


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPage:
    """A page that begins after a row's key; `filter` is the digest of the request."""

    version: str | None
    filter: str
    key: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """A page that begins at a place in a list, which is computed again from the same versions."""

    versions: Mapping[str, str | None]
    filter: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTokens:
    """The makers."""

    rows: TokenMaker[KeyPage]
    ranges: TokenMaker[KeyPage]
    lists: TokenMaker[ListPage]

    @classmethod
    def from_secret(cls, secret: bytes) -> Self:
        """Return makers with keys derived from one secret."""
        return cls(
            rows=TokenMaker(secret, purpose="query: page of rows", shape=KeyPage),
            ranges=TokenMaker(secret, purpose="query: page of a range", shape=KeyPage),
            lists=TokenMaker(secret, purpose="query: page of a list", shape=ListPage),
        )
