"""The few forms of PromQL that the boards are made of."""

from __future__ import annotations

from collections.abc import Sequence

from k2boards.board import Query

SPAN = "[$__rate_interval]"


def rate(selector: str, *, by: str = "", legend: str = "") -> Query:
    """Growth of a counter a second, added up by the labels `by`."""
    return summed(f"rate({selector}{SPAN})", by=by, legend=legend)


def grown(selector: str, *, by: str = "", legend: str = "") -> Query:
    """Growth of a counter in the shown interval, for what is rare."""
    return summed(f"increase({selector}{SPAN})", by=by, legend=legend)


def summed(expression: str, *, by: str = "", legend: str = "") -> Query:
    """The sum over the replicas."""
    return _over("sum", expression, by, legend)


def largest(expression: str, *, by: str = "", legend: str = "") -> Query:
    """The largest of the replicas, where each knows the whole."""
    return _over("max", expression, by, legend)


def smallest(expression: str, *, by: str = "", legend: str = "") -> Query:
    """The smallest of the replicas."""
    return _over("min", expression, by, legend)


def quantiles(
    histogram: str, *, by: str = "", where: str = "", of: Sequence[float] = (0.5, 0.99), legend: str = ""
) -> Sequence[Query]:
    """Quantiles of a histogram by the labels `by`; `legend` comes behind the name of each."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({histogram}_bucket{where}{SPAN}))"
    return [
        Query(
            expr=f"histogram_quantile({share}, {buckets})",
            legend=f"p{share * 100:g} {legend or _shown(by)}".strip(),
        )
        for share in of
    ]


def mean(histogram: str, *, by: str = "", where: str = "", legend: str = "") -> Query:
    """The mean of what a histogram was told."""
    total, count = (f"rate({histogram}_{part}{where}{SPAN})" for part in ("sum", "count"))
    of = f" by ({by})" if by else ""
    return Query(expr=f"sum{of} ({total}) / sum{of} ({count})", legend=legend or _shown(by))


def _over(operator: str, expression: str, by: str, legend: str) -> Query:
    of = f" by ({by})" if by else ""
    return Query(expr=f"{operator}{of} ({expression})", legend=legend or _shown(by))


def _shown(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if label)
