"""A board in the terms of this project, and as Grafana's JSON.

A panel is a question with its queries. What all panels share (data source, legend, widths) stands here once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, text, timeseries
from grafana_foundation_sdk.builders.dashboard import QueryVariable, TextBoxVariable
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shown
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.text import TextMode

TAG = "k2"
SOURCE = shown.DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH = 24
"""Columns of Grafana's grid."""
EVERYTHING = ".*"
"""What a choice stands for until one is made."""

Unit: TypeAlias = Literal["short", "s", "bytes", "Bps", "rowsps", "reqps", "ops", "percentunit", "none"]
Kind: TypeAlias = Literal["lines", "figure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """PromQL, and the name of its series; `{{label}}` stands for a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question. `limits` are values from which on it turns orange, then red."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: Unit = "short"
    kind: Kind = "lines"
    width: int = 8
    height: int = 8
    stacked: bool = False
    limits: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A panel of Markdown; variables stand as `${name}`."""

    title: str
    content: str
    width: int = WIDTH
    height: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel | Words]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable: the values of a label of a metric, all of them until some are chosen."""

    name: str
    metric: str

    @property
    def query(self) -> str:
        return f"label_values({self.metric}, {self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A variable that the reader types in."""

    name: str
    label: str
    default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard, known to its links by `uid`."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Choice | Entry] = ()
    since: str = "now-30m"

    @property
    def panels(self) -> Sequence[Panel]:
        """Those that ask Prometheus."""
        return [panel for row in self.rows for panel in row.panels if isinstance(panel, Panel)]

    def json(self) -> str:
        """The dashboard as Grafana reads it, the same bytes for the same board."""
        made = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .timezone(shown.TimeZoneUtc)
            .time(self.since, "now")
            .refresh("10s")
            .readonly()
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(
                dashboard.DashboardLink("K2")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)
                .keep_time(True)
            )
        )
        for variable in self.variables:
            made.with_variable(_variable(variable))
        number = count(1)
        for row in self.rows:
            made.with_row(dashboard.Row(row.title).id(next(number)))
            for panel in row.panels:
                made.with_panel(_made(panel).id(next(number)))
        return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _variable(variable: Choice | Entry) -> QueryVariable | TextBoxVariable:
    if isinstance(variable, Entry):
        return TextBoxVariable(variable.name).label(variable.label).default_value(variable.default)
    return (
        QueryVariable(variable.name)
        .datasource(SOURCE)
        .query(variable.query)
        .multi(True)
        .include_all(True)
        .all_value(EVERYTHING)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _made(panel: Panel | Words) -> timeseries.Panel | stat.Panel | text.Panel:
    return _words(panel) if isinstance(panel, Words) else _panel(panel)


def _words(words: Words) -> text.Panel:
    return (
        text.Panel()
        .title(words.title)
        .content(words.content)
        .mode(TextMode.MARKDOWN)
        .span(words.width)
        .height(words.height)
    )


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel:
    made = _figure() if panel.kind == "figure" else _lines(stacked=panel.stacked)
    made.title(panel.title).description(panel.description).datasource(SOURCE)
    made.unit(panel.unit).min(0)
    made.span(panel.width).height(panel.height)
    made.thresholds(_thresholds(panel.limits))
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range()
        made.with_target(target.ref_id(chr(ord("A") + number)))
    return made


def _figure() -> stat.Panel:
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(reduced).color_scheme(_color("thresholds"))


def _lines(*, stacked: bool) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True)
    legend.placement(shown.LegendPlacement.BOTTOM).display_mode(shown.LegendDisplayMode.LIST)
    made = timeseries.Panel().legend(legend)
    made.tooltip(common.VizTooltipOptions().mode(shown.TooltipDisplayMode.MULTI))
    made.color_scheme(_color("palette-classic"))
    if stacked:
        made.fill_opacity(30)
        made.stacking(common.StackingConfig().mode(shown.StackingMode.NORMAL).group("A"))
    return made


def _color(mode: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId(mode))


def _thresholds(limits: Sequence[float]) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color="green")]
    steps += [
        models.Threshold(value=limit, color=color)
        for limit, color in zip(limits, ("orange", "red"), strict=False)
    ]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
