"""Which trades count: off-market prints are left out, unless the caller chooses by condition or wants all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from k2common.engine.scan import Parameters
from k2common.layouts.mapping import FLAG_OFF_MARKET


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rows that count: by the flag that the layout set, or by conditions; without any of them all rows."""

    off_market: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    @property
    def name(self) -> str:
        """`off_market`, `conditions` or `none`."""
        if self.include or self.exclude:
            return "conditions"
        return "off_market" if self.off_market else "none"

    def sql(self, parameters: Parameters) -> str:
        """A condition that the rows fulfil which count."""
        parts = ["true"]
        if self.off_market:
            parts.append(f"flags & {FLAG_OFF_MARKET} = 0")
        if self.include:
            parts.append(f"list_has_any(conditions, {parameters.bind(list(self.include))})")
        if self.exclude:
            parts.append(f"NOT list_has_any(conditions, {parameters.bind(list(self.exclude))})")
        return f"({' AND '.join(parts)})"


ALL_ROWS = Rule()


def rule_of(
    off_market: Literal["include", "exclude"] | None, include: Sequence[str], exclude: Sequence[str]
) -> Rule:
    """The rule of a request: conditions that are named take the place of the default."""
    default = "include" if include or exclude else "exclude"
    return Rule(off_market=(off_market or default) == "exclude", include=include, exclude=exclude)
