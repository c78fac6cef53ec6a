"""Answers other than success, as the services give them (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx


class K2HttpError(Exception):
    """A problem document: `code` is stable, `detail` for people, `errors` names the parameters at fault."""

    def __init__(self, *, status: int, code: str, detail: str, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors

    @classmethod
    def of(cls, answer: httpx.Response) -> Self:
        """The error in an answer that was read; one that is no problem document keeps its text."""
        try:
            problem = answer.json()
            return cls(
                status=answer.status_code,
                code=problem["code"],
                detail=problem["detail"],
                errors=problem.get("errors", ()),
            )
        except (ValueError, KeyError, TypeError):
            return cls(status=answer.status_code, code="UNKNOWN", detail=answer.text, errors=())
