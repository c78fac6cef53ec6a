"""Waiting for a start ends when nothing moves any more or a component keeps ending, and not by the clock."""

import pytest
from k2local.startup_progress import MOST_DEATHS, REPORT_SECONDS, STALL_SECONDS, Snapshot, StartupProgress


def seen(*, log_bytes: int = 0, cpu_seconds: int = 0, **deaths: int) -> Snapshot:
    return Snapshot(deaths=deaths or {"kafka": 0}, log_bytes=log_bytes, cpu_seconds=cpu_seconds)


@pytest.fixture
def progress() -> StartupProgress:
    return StartupProgress(moved_at=0, reported_at=0)


@pytest.mark.parametrize("what", ["log_bytes", "cpu_seconds"])
def test_a_slow_start_is_waited_for_as_long_as_it_moves(progress: StartupProgress, what: str) -> None:
    for step in range(100):
        assert progress.observe(seen(**{what: step}), now=step * STALL_SECONDS) is None


def test_a_start_that_stands_still_is_given_up_by_name(progress: StartupProgress) -> None:
    still = seen(kafka=0, registry=0)
    assert progress.observe(still, now=0) is None
    assert progress.observe(still, now=STALL_SECONDS) is None
    reason = progress.observe(still, now=STALL_SECONDS + 1)
    assert reason == f"kafka, registry did nothing for {STALL_SECONDS:.0f} s"


def test_a_component_that_gets_ready_is_progress(progress: StartupProgress) -> None:
    progress.observe(seen(kafka=0, registry=0), now=0)
    assert progress.observe(seen(registry=0), now=2 * STALL_SECONDS) is None


def test_a_component_that_ends_again_and_again_is_given_up(progress: StartupProgress) -> None:
    for deaths in range(MOST_DEATHS):
        assert progress.observe(seen(sink=deaths), now=deaths) is None
    assert progress.observe(seen(sink=MOST_DEATHS), now=9) == f"sink has ended {MOST_DEATHS} times"


def test_it_is_said_now_and_then_what_is_waited_for(progress: StartupProgress) -> None:
    progress.observe(seen(kafka=0), now=0)
    assert progress.report(now=REPORT_SECONDS - 1) is None
    assert progress.report(now=REPORT_SECONDS) == "waiting for kafka"
    assert progress.report(now=REPORT_SECONDS + 1) is None
