"""A stream is counted while it is open, and by how it ended."""

import pytest
from k2common.observability.metrics import CollectorRegistry
from replay_service.metrics import ReplayMetrics


def test_a_stream_is_completed_only_when_nothing_broke_it_off() -> None:
    registry = CollectorRegistry()
    metrics = ReplayMetrics(registry)
    with metrics.one_stream():
        assert registry.get_sample_value("k2_replays_streamed") == 1
    with pytest.raises(ConnectionError), metrics.one_stream():
        raise ConnectionError
    assert registry.get_sample_value("k2_replays_streamed") == 0
    for outcome in ("completed", "interrupted"):
        assert registry.get_sample_value("k2_replays_finished_total", {"outcome": outcome}) == 1
