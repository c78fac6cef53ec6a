"""Whether a service can do its work, as its loops already know; asking never does I/O."""

from __future__ import annotations

from collections.abc import Mapping


class Readiness:
    """Ready when every part that was announced is."""

    def __init__(self) -> None:
        self._reasons: dict[str, str | None] = {}

    def waiting(self, part: str, reason: str) -> None:
        """`part` cannot work, for `reason`."""
        self._reasons[part] = reason

    def ready(self, part: str) -> None:
        """`part` works."""
        self._reasons[part] = None

    @property
    def parts(self) -> Mapping[str, bool]:
        """Every part that was announced, and whether it works."""
        return {part: reason is None for part, reason in self._reasons.items()}

    @property
    def blocked(self) -> Mapping[str, str]:
        """The parts that cannot work and why; empty when the service is ready."""
        return {part: reason for part, reason in self._reasons.items() if reason is not None}
