"""The metrics and labels that an expression of PromQL names, as far as the boards' expressions go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

METRIC = re.compile(r"\b(?:k2|process)_[a-z0-9_]+|\b[a-z]\w*:[\w:]+|\bup\b|\bALERTS\b")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"[^\"]*\"")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left)\s*\(([^)]*)\)")
STRING = re.compile(r"\"[^\"]*\"")
OWN = {"le", "job", "instance"}
"""Labels that no metric declares: of a histogram's buckets, and of whatever is scraped."""
PARTS = ("_bucket", "_sum", "_count")


def metrics_of(expression: str) -> Set[str]:
    """Names of series; what is quoted is none."""
    outside = GROUPING.sub("", STRING.sub('""', expression))
    return {name.partition("{")[0] for name in METRIC.findall(outside)}


def matched_by(expression: str) -> Mapping[str, Set[str]]:
    """The labels by which each metric is chosen."""
    found: dict[str, set[str]] = {}
    for name, braces in re.findall(r"\b([a-zA-Z_:][\w:]*)\{([^}]*)\}", expression):
        found.setdefault(name, set()).update(MATCHER.findall(f"{braces}"))
    return found


def grouped_by(expression: str) -> Set[str]:
    """The labels by which results are grouped."""
    lists = GROUPING.findall(expression)
    return {label.strip() for labels in lists for label in labels.split(",") if label.strip()}


def family(name: str) -> str:
    """The metric that a series belongs to: a histogram's name without its part."""
    return next((name.removesuffix(part) for part in PARTS if name.endswith(part)), name)


def substituted(expression: str, *, span: str = "30s") -> str:
    """The expression as Grafana asks it with all values chosen."""
    filled = expression.replace("$__rate_interval", span)
    return re.sub(r"\$\{?(?!__)[a-z]+\}?", ".*", filled)
