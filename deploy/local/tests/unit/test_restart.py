"""A process that keeps dying is started ever more seldom, one that ran steadily at once."""

from k2local.restart import LONGEST_SECONDS, STEADY_SECONDS, Backoff


def test_the_wait_doubles_to_its_limit() -> None:
    backoff, now, waits = Backoff(), 0.0, []
    for _ in range(9):
        backoff = backoff.died(started=now, now=now)
        waits.append(backoff.not_before - now)
        now = backoff.not_before
    assert [round(wait, 3) for wait in waits[:4]] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == LONGEST_SECONDS


def test_a_steady_run_restarts() -> None:
    worn = Backoff(deaths=8, not_before=50)
    assert worn.died(started=60, now=61 + STEADY_SECONDS).deaths == 1
