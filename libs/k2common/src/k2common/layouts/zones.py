"""Time zones that can be used: the time zone database names them, and Arrow can convert with them."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

import pyarrow as pa
import pyarrow.compute as pc


def known_zone(zone: str) -> str:
    """Return the zone's name.

    Raises ValueError when there is no such zone, or times cannot be converted with it.
    """
    if zone not in _zones():
        raise ValueError(f"{zone!r} is no zone of the time zone database")
    try:
        pc.local_timestamp(pa.array([0], pa.timestamp("us", zone)))
    except pa.ArrowInvalid as error:
        raise ValueError(f"times cannot be converted with zone {zone!r}") from error
    return zone


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
