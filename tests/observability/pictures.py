"""Draws panels of the boards from a run that a real Prometheus watched; `./task boards:pictures` runs it."""

from __future__ import annotations

import io
import math
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from k2boards.board import Board, Panel
from k2boards.boards import BOARDS
from k2local.prometheus import install
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tests.observability.conftest import CACHE
from tests.observability.observed import Observed, observed_run

POINTS = 60
"""Of a line."""
NAME = 30
"""Characters of a line's name."""
SERIES = 6
"""At most so many lines in a panel, the largest."""
SHOWN: Mapping[str, Sequence[str]] = {
    "k2-fleet": (
        "Rows by hop",
        "Waiting",
        "Age of the newest rows",
        "Requests",
        "Memory",
        "Time since the start",
    ),
    "k2-ingest": (
        "Uploads received",
        "Time to commit",
        "Who is slow",
        "Rows of final receipts",
        "Rows refused, by code",
        "Spool",
    ),
    "k2-sink": (
        "Rows unaccounted for",
        "Records waiting",
        "Time of a commit",
        "Dead letters",
        "Events of sequence numbers",
        "Live snapshots",
    ),
    "k2-query": (
        "Requests by route",
        "Queries in hand",
        "Time of a query",
        "Queries finished",
        "Queries refused",
        "Memory of the engine",
    ),
    "k2-replay": ("Open streams", "Rows replayed", "Streams ended"),
    "k2-follow": (
        "Received, by what they were",
        "Chunks published",
        "Rows read",
        "Rows committed",
        "Uploads hidden",
        "Receipts",
    ),
}
"""The panels of each picture."""
STYLE: Mapping[str, Any] = {
    # Text stays text: small, and found by a search.
    "svg.fonttype": "none",
    "svg.hashsalt": "k2",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.2,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "path.simplify_threshold": 1.0,
}
UNITS: Mapping[str, str] = {"s": "s", "bytes": "B", "Bps": "B/s", "rowsps": "/s", "reqps": "/s", "ops": "/s"}


def draw(run: Observed, folder: Path) -> Sequence[Path]:
    """One picture for each board."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(dict(STYLE)):
        return [_draw_board(run, board, folder / f"{board.uid.removeprefix('k2-')}.svg") for board in BOARDS]


def _draw_board(run: Observed, board: Board, path: Path) -> Path:
    panels = [panel for title in SHOWN[board.uid] for panel in board.panels if panel.title == title]
    rows = math.ceil(len(panels) / 3)
    figure = Figure(figsize=(11, 2.8 * rows), dpi=72)
    figure.suptitle(board.title, x=0.01, ha="left", fontsize=11)
    figure.subplots_adjust(
        left=0.055, right=0.99, top=1 - 0.2 / rows, bottom=0.26 / rows, hspace=0.55, wspace=0.22
    )
    grid = figure.subplots(rows, 3, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=True):
        _draw_panel(run, panel, axes)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(_compact(drawn.getvalue()), "utf-8")
    return path


def _compact(svg: str) -> str:
    """The same picture in half the bytes: each style once, a tenth of a point, no marks at the ticks."""
    styles: dict[str, str] = {}

    def classed(style: re.Match[str]) -> str:
        return f'class="{styles.setdefault(style.group(1), f"c{len(styles)}")}"'

    def rounded(path: re.Match[str]) -> str:
        return re.sub(r"\d+\.\d+", lambda number: f"{float(number.group()):.1f}", path.group())

    svg = re.sub(r"<defs>\s*<path[^>]*/>\s*</defs>|<use[^>]*/>| transform=\"rotate\(-0 [^\"]*\"", "", svg)
    svg = re.sub(r' d="[^"]*"', rounded, re.sub(r'style="([^"]*)"', classed, svg))
    rules = "".join(f".{name}{{{style}}}" for style, name in styles.items())
    svg = svg.replace("</style>", f"{rules}</style>", 1)
    return re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", "\n", svg))


def _draw_panel(run: Observed, panel: Panel, axes: Axes) -> None:
    step = max(1.0, run.seconds / POINTS)
    lines = [
        (_named(query.legend, entry["metric"]), _points(entry, run.started, step))
        for query in panel.queries
        for entry in run.over_time(query.expr, step=step)
    ]
    lines = [line for line in lines if line[1]]
    lines.sort(key=lambda line: -max(value for _, value in line[1] if math.isfinite(value)))
    for name, points in lines[:SERIES]:
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set_title(panel.title)
    axes.set_xlim(0, run.seconds)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter(unit=UNITS.get(panel.unit, ""), sep=""))
    axes.xaxis.set_major_formatter(EngFormatter(unit="s", sep=""))
    axes.margins(y=0.1)
    if lines:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.12, -0.1),
            ncols=_columns(lines[:SERIES]),
            columnspacing=1,
            handlelength=1,
        )


def _columns(lines: Sequence[tuple[str, Any]]) -> int:
    longest = max(len(name) for name, _ in lines)
    return 3 if longest < 16 else 2


def _points(entry: Mapping[str, Any], started: float, step: float) -> Sequence[tuple[float, float]]:
    found = [(float(at) - started, float(value)) for at, value in entry["values"]]
    points: list[tuple[float, float]] = []
    for at, value in found:
        if not math.isfinite(value):
            continue
        if points and at - points[-1][0] > 1.5 * step:
            # Nothing was there in between: no line leads over it.
            points.append((points[-1][0] + step, math.nan))
        points.append((at, value))
    return points


def _named(legend: str, labels: Mapping[str, str]) -> str:
    # There is one replica of each service.
    shown = legend.replace("{{instance}}", "").strip()
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match.group(1), ""), shown)[:NAME]


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as home,
        observed_run(Path(home), CACHE, install(CACHE)) as observed,
    ):
        for picture in draw(observed, Path(sys.argv[1])):
            sys.stdout.write(f"{picture}: {picture.stat().st_size} bytes\n")
