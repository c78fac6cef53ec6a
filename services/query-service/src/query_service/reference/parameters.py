"""The parameters of symbols, instruments, symbology and corporate actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from query_service.answers.parameters import VersionParameters, WrittenParameters, fault, split, symbols_of
from query_service.reference.reference import NAMES, Wanted

MAX_NAMES = 2_000
KINDS = ("split", "dividend", "merger", "spinoff", "rights", "other")


class ReferenceParameters(WrittenParameters, VersionParameters):
    """Reference data by symbol, venue and source."""

    symbols: str = Field(
        default="*",
        min_length=1,
        max_length=100_000,
        description="Up to 2,000 symbols by commas; `*` is all.",
        examples=["BHP,RIO"],
    )
    venues: str | None = Field(
        default=None, max_length=10_000, description="Venues by commas; all without it.", examples=["XASX"]
    )
    source: str | None = Field(
        default=None, max_length=256, description="Rows of this feed alone.", examples=["asx"]
    )

    @property
    def timezone(self) -> str:
        """Reference data has dates only."""
        return "UTC"

    def to_wanted(self) -> Wanted:
        """The conditions. Raises Problem 400."""
        return Wanted(symbols=symbols_of(self.symbols), venues=split(self.venues), source=self.source)


class SymbolsParameters(ReferenceParameters):
    """Symbols of one dataset."""

    dataset: Literal["trades", "quotes", "bars"] = Field(
        default="trades", description="Where to look for symbols.", examples=["quotes"]
    )


class InstrumentsParameters(ReferenceParameters):
    """Instruments by symbol and date."""

    on: date | None = Field(
        default=None,
        alias="date",
        description="Those whose `valid_from` and `valid_to` hold this day between them; all without it.",
        examples=["2014-03-11"],
    )
    instrument_ids: str | None = Field(
        default=None, max_length=100_000, description="The vendor's ids, by commas.", examples=["7078"]
    )
    isins: str | None = Field(
        default=None, max_length=100_000, description="ISINs, by commas.", examples=["AU000000BHP4"]
    )

    def to_wanted(self) -> Wanted:
        """The conditions. Raises Problem 400."""
        known = super().to_wanted()
        return Wanted(
            symbols=known.symbols,
            venues=known.venues,
            source=known.source,
            on=self.on,
            others={
                "instrument_id": bounded("instrument_ids", self.instrument_ids),
                "isin": bounded("isins", self.isins),
            },
        )


class ResolveParameters(InstrumentsParameters):
    """Names of instruments: symbols, the vendor's ids, ISINs, in any mix."""

    symbols: str | None = Field(  # type: ignore[assignment] # all of them are no question here
        default=None, max_length=100_000, description="Symbols by commas.", examples=["BHP,RIO"]
    )

    def to_wanted(self) -> Wanted:
        """The conditions beside the names."""
        return Wanted(venues=split(self.venues), source=self.source, on=self.on)

    def to_asked(self) -> Mapping[str, Sequence[str]]:
        """The names by what they are. Raises Problem 400 where there is none."""
        given = {"symbols": self.symbols, "instrument_ids": self.instrument_ids, "isins": self.isins}
        asked = {kind: bounded(name, text) for kind, (name, text) in zip(NAMES, given.items(), strict=True)}
        if not any(asked.values()):
            raise fault("symbols", "give symbols, instrument_ids or isins", None)
        return asked


class ActionsParameters(ReferenceParameters):
    """Corporate actions by ex-date."""

    kinds: str | None = Field(
        default=None,
        max_length=100,
        description=f"By commas: {', '.join(KINDS)}; all without it.",
        examples=["split,dividend"],
    )
    start: date | None = Field(default=None, description="First ex-date, inclusive.", examples=["2014-01-01"])
    end: date | None = Field(default=None, description="Last ex-date, exclusive.", examples=["2015-01-01"])

    def to_wanted(self) -> Wanted:
        """The conditions. Raises Problem 400."""
        known = super().to_wanted()
        kinds = split(self.kinds)
        for kind in kinds:
            if kind not in KINDS:
                raise fault("kinds", f"kinds are among {', '.join(KINDS)}", kind)
        if self.start is not None and self.end is not None and self.start > self.end:
            raise fault("end", "end lies before start", self.end.isoformat())
        return Wanted(symbols=known.symbols, venues=known.venues, source=known.source, others={"kind": kinds})


def bounded(name: str, text: str | None) -> Sequence[str]:
    """The names between the commas. Raises Problem 400 for too many."""
    names = split(text)
    if len(names) > MAX_NAMES:
        raise fault(name, f"{name} are at most {MAX_NAMES}", None)
    return names


Symbols = Annotated[SymbolsParameters, Query()]
Instruments = Annotated[InstrumentsParameters, Query()]
Resolve = Annotated[ResolveParameters, Query()]
Actions = Annotated[ActionsParameters, Query()]
