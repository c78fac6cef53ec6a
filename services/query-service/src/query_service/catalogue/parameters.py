"""The parameters of the catalogue of datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from k2common.engine.scan import Filter
from k2common.schemas.datasets import MARKET_DATASETS
from pydantic import AfterValidator, Field

from query_service.answers.parameters import RangeParameters, VersionParameters, split, symbols_of

NAMES = tuple(MARKET_DATASETS)


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"there are {', '.join(NAMES)}")
    return name


DatasetName = Annotated[
    str,
    AfterValidator(_known),
    Path(description="A dataset.", examples=["trades"], json_schema_extra={"enum": list(NAMES)}),
]


class SpanParameters(VersionParameters):
    """Which rows of a dataset the span is of."""

    symbols: str = Field(
        default="*",
        min_length=1,
        max_length=100_000,
        description="Rows of these symbols alone, by commas; `*` is all.",
        examples=["BHP"],
    )
    venues: str | None = Field(
        default=None, max_length=10_000, description="Venues by commas; all without it.", examples=["XASX"]
    )
    source: str | None = Field(
        default=None, max_length=256, description="Rows of this feed alone.", examples=["asx"]
    )

    def to_filter(self) -> Filter:
        """The conditions. Raises Problem 400."""
        return Filter(symbols=symbols_of(self.symbols), venues=split(self.venues), source=self.source)


Versioned = Annotated[VersionParameters, Query()]
Span = Annotated[SpanParameters, Query()]
Estimated = Annotated[RangeParameters, Query()]
