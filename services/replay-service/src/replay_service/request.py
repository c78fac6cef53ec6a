"""What a client asks to be replayed, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from k2common.domain.time import parse_time
from k2common.engine.scan import Filter
from k2common.errors import RecordError
from k2common.http.parameters import invalid
from k2common.http.problems import FieldError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

DatasetName = Literal["trades", "quotes"]


class ReplayRequest(BaseModel):
    """The body of `POST /v1/replays`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datasets: tuple[DatasetName, ...] = Field(default=("trades",), min_length=1, max_length=10)
    symbols: tuple[str, ...] = Field(default=("*",), min_length=1, max_length=2_000)
    venues: tuple[str, ...] = Field(default=(), max_length=100)
    source: str | None = Field(default=None, max_length=256)
    start: str | None = Field(default=None, max_length=40)
    end: str | None = Field(default=None, max_length=40)
    as_of: str | None = Field(default=None, max_length=500)
    speed: Literal["max"] = "max"
    output: Literal["stream"] = "stream"

    @field_validator("datasets")
    @classmethod
    def _each_once(cls, datasets: tuple[DatasetName, ...]) -> tuple[DatasetName, ...]:
        return tuple(sorted(set(datasets)))

    @field_validator("start", "end")
    @classmethod
    def _a_time(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                parse_time(text)
            except RecordError as error:
                raise ValueError(str(error)) from error
        return text

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The request in a JSON text.

        Raises Problem 400 that names each fault by its pointer.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise invalid([_field_error(entry) for entry in error.errors()]) from error

    def to_filter(self) -> Filter:
        """Which rows are replayed."""
        return Filter(
            start_ns=None if self.start is None else parse_time(self.start),
            end_ns=None if self.end is None else parse_time(self.end),
            symbols=() if "*" in self.symbols else self.symbols,
            venues=self.venues,
            source=self.source,
        )


def _field_error(entry: Mapping[str, Any]) -> FieldError:
    pointer = "/" + "/".join(str(part) for part in entry["loc"])
    unknown = entry["type"] == "extra_forbidden"
    code = "UNKNOWN_PARAMETER" if unknown else "INVALID"
    return FieldError(parameter=pointer, code=code, message=f"{pointer}: {entry['msg']}")
