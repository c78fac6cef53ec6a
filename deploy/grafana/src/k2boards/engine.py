"""Panels about the query engine, for the services that have one."""

from __future__ import annotations

from collections.abc import Sequence

from k2boards.board import Panel, Row
from k2boards.promql import grown, quantiles, rate, summed


def requests(job: str) -> Row:
    """What is asked of a service, and how long its answers take."""
    where = f'{{job="{job}"}}'
    return Row(
        title="Requests",
        panels=[
            Panel(
                title="Requests by route",
                description="Answered, whatever the status.",
                queries=[rate(f"k2_http_requests_answered_total{where}", by="route")],
                unit="reqps",
            ),
            Panel(
                title="Time of requests",
                description="The 95th percentile until the last byte; streams take as long as their reader.",
                queries=quantiles("k2_http_requests_answered_seconds", by="route", where=where, of=(0.95,)),
                unit="s",
            ),
            Panel(
                title="Requests by status",
                description="500 and more are failures of the service.",
                queries=[rate(f"k2_http_requests_answered_total{where}", by="status")],
                unit="reqps",
            ),
        ],
    )


def engine(job: str) -> Row:
    """Queue, work and memory of the engine in a service."""
    return Row(title="Engine", panels=_panels(f'{{job="{job}"}}'))


def _panels(where: str) -> Sequence[Panel]:
    return [
        Panel(
            title="Queries in hand",
            description="At K2_ENGINE__CONCURRENT_QUERIES all the time: the service is full.",
            queries=[
                summed(f"k2_queries_running{where}", legend="running"),
                summed(f"k2_queries_waiting{where}", legend="waiting"),
                summed(f"k2_streams_running{where}", legend="open streams"),
            ],
        ),
        Panel(
            title="Time of a query",
            description="Until its turn, and in the engine; of a stream, part by part.",
            queries=[
                *quantiles("k2_queries_waited_seconds", where=where, legend="waited"),
                *quantiles("k2_queries_run_seconds", where=where, legend="run"),
            ],
            unit="s",
        ),
        Panel(
            title="Queries finished",
            description="`interrupted` is a time limit or a client that left, `too_large` a memory limit.",
            queries=[rate(f"k2_queries_finished_total{where}", by="outcome")],
            unit="ops",
        ),
        Panel(
            title="Queries refused",
            description="`overloaded`: all wait; `too_many`: one caller has more than its part waiting.",
            queries=[grown(f"k2_queries_refused_total{where}", by="reason")],
            limits=(1,),
        ),
        Panel(
            title="Memory of the engine",
            description="Used, and allowed; beyond it queries spill or are refused as too large.",
            queries=[
                summed(f"k2_engine_used_bytes{where}", legend="used"),
                summed(f"k2_engine_allowed_bytes{where}", legend="allowed"),
                summed(f"k2_engine_spilled_bytes{where}", legend="on disk"),
            ],
            unit="bytes",
        ),
        Panel(
            title="Databases open",
            description="One for each query that ran at the same time.",
            queries=[summed(f"k2_databases_opened{where}", legend="databases")],
        ),
    ]
