"""The shape of successful answers in JSON: `data`, and `meta` with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request


def single(data: Mapping[str, Any], request: Request) -> Mapping[str, Any]:
    """One resource."""
    return {"data": data, "meta": {"request_id": request.scope.get("k2_request_id")}}


def listing(
    data: Sequence[Mapping[str, Any]],
    request: Request,
    *,
    token: str | None = None,
    version: str | None = None,
) -> Mapping[str, Any]:
    """A page of several; `token` asks for the next one, `version` is what it was read from."""
    meta = {"request_id": request.scope.get("k2_request_id"), "row_count": len(data), "version": version}
    return {"data": list(data), "next_page_token": token, "meta": meta}
