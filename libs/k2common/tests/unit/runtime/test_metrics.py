"""A process tells of itself from its first moment on, and goes on counting over its tries to start."""

import asyncio
from random import Random

import httpx
from k2common.errors import TransientError
from k2common.observability.metrics import CollectorRegistry, Declarations
from k2common.runtime.metrics import START, ServiceMetrics
from k2common.runtime.readiness import Readiness
from k2common.runtime.retry import until_stopped
from k2common.runtime.startup_app import StartupApp


async def test_a_service_that_waits_at_its_start_gives_its_metrics() -> None:
    metrics, readiness = ServiceMetrics(service="any"), Readiness()
    readiness.waiting(START, "Kafka is unavailable")
    metrics.report_parts(lambda: readiness.parts)
    metrics.retried(START)
    door = StartupApp(metrics.registry, guard=lambda app: app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://k2") as client:
        assert (await client.get("/v1/anything")).status_code == 503
        text = (await client.get("/metrics")).text
    lines = text.splitlines()
    assert 'k2_service_blocked{part="start"} 1.0' in lines
    assert 'k2_works_retried_total{work="start"} 1.0' in lines
    assert any(line.startswith("process_start_time_seconds ") for line in lines)
    assert any(line.startswith("k2_build_info{") and 'service="any"' in line for line in lines)


def test_what_was_counted_before_a_new_try_is_still_counted() -> None:
    metrics, readiness = ServiceMetrics(service="any"), Readiness()
    metrics.report_parts(lambda: readiness.parts)
    for rows in (1, 2):
        registry = metrics.with_others()
        Declarations(registry).counter("k2_rows_seen", "Rows.", look="Now.").inc(rows)
        assert registry.get_sample_value("k2_rows_seen_total") == rows
        metrics.retried(START)
        assert registry.get_sample_value("k2_works_retried_total", {"work": START}) == rows
    readiness.ready(START)
    readiness.waiting("topics", "they are being read")
    blocked = [registry.get_sample_value("k2_service_blocked", {"part": p}) for p in (START, "topics")]
    assert blocked == [0, 1]


async def test_work_that_is_begun_anew_is_counted_by_its_name() -> None:
    stop, told = asyncio.Event(), []

    async def work() -> None:
        if told:
            stop.set()
        raise TransientError("unavailable")

    await until_stopped(work, stop=stop, name="share", random=Random(1), retried=told.append)
    assert told == ["share", "share"]
    assert isinstance(ServiceMetrics(service="any").with_others(), CollectorRegistry)
