"""All boards, in the order of a reader's questions."""

from __future__ import annotations

from collections.abc import Sequence

from k2boards import fleet, follow, ingest, query, replay, sink
from k2boards.board import Board

BOARDS: Sequence[Board] = (
    fleet.BOARD,
    ingest.BOARD,
    sink.BOARD,
    query.BOARD,
    replay.BOARD,
    follow.BOARD,
)


def files() -> dict[str, str]:
    """Name of each file that Grafana reads, and its content."""
    return {f"{board.uid.removeprefix('k2-')}.json": board.json() for board in BOARDS}
