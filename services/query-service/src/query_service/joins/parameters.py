"""The parameters of the as-of join."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from query_service.answers.parameters import RangeParameters, WrittenParameters, fault

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3_600 * 10**9}
DURATION = re.compile(r"([0-9]{1,12})(ns|us|ms|s|min|h)")
MOST_NS = 7 * 24 * UNITS["h"]


class JoinParameters(WrittenParameters, RangeParameters):
    """Trades of a range, each with its quote."""

    tolerance: str = Field(
        default="1h",
        max_length=20,
        description="An older quote is not taken: a number with ns, us, ms, s, min or h; at most 168h.",
        examples=["500ms"],
    )
    match: Literal["before", "at_or_before"] = Field(
        default="at_or_before",
        description="Whether a quote of the trade's very nanosecond counts as standing before it.",
        examples=["before"],
    )
    quote_source: str | None = Field(
        default=None,
        max_length=256,
        description="Quotes of this feed alone; those of `source` without it.",
        examples=["asx"],
    )

    def tolerance_ns(self) -> int:
        """Nanoseconds. Raises Problem 400."""
        match = DURATION.fullmatch(self.tolerance)
        if match is None or int(match[1]) * UNITS[match[2]] > MOST_NS:
            message = "tolerance is a number with ns, us, ms, s, min or h, at most 168h"
            raise fault("tolerance", message, self.tolerance)
        return int(match[1]) * UNITS[match[2]]


Join = Annotated[JoinParameters, Query()]
