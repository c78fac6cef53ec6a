"""The fleet as Prometheus sees it: under load, with rejects, a gap, dead letters, a replay, a killed sink and
a loader that waits for the registry.

Every panel of every board shows something, every metric of the reference is there and moves, and no label
grows with what is loaded or asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from k2boards.board import Choice
from k2boards.boards import BOARDS
from k2common.observability.metrics import Declared
from k2local.prometheus import Programs

from tests.docs import metrics
from tests.observability.conftest import CACHE
from tests.observability.expressions import OWN, substituted
from tests.observability.observed import Observed, observed_run

pytestmark = pytest.mark.timeout(900)

DECLARED = [metric for found in metrics.declared().values() for metric in found]
QUERIES = [(board, panel, query) for board in BOARDS for panel in board.panels for query in panel.queries]
STRANGER = "takes a message of a stranger; tests/e2e/test_stray_messages.py writes some to every topic"
DAMAGE = "takes a file that is damaged, missing or another engine's; tests/integration/damage, tests/spark"
UNMOVED: Mapping[str, str] = {
    "k2_messages_skipped_total": STRANGER,
    "k2_records_strayed_total": STRANGER,
    "k2_source_positions_reversed_total": "takes a loader whose transactions do not hold",
    "k2_data_files_refused_total": DAMAGE,
    "k2_files_damaged": DAMAGE,
    "k2_files_unverified": DAMAGE,
    "k2_spool_quarantined_bodies": "takes a broker that rolls back what it acknowledged",
    "k2_uploads_reclaimed_total": "the same; tests/integration/gateway has such a broker",
    "process_max_fds": "a limit of the system",
    "k2_build_info": "one version runs",
    "k2_spool_reserved_bytes": "a setting",
    "k2_rows_unaccounted": "0 is what it promises; the conservation tests break it on purpose",
    "k2_partitions_owned": "one loader has them all",
    "k2_chunks_isolated_total": "takes a chunk that ends its parser twice; tests/integration/loader has one",
    "k2_uploads_expired_total": "takes a loader that is unavailable for longer than Kafka keeps chunks",
    "k2_messages_redriven_total": "takes a schema that comes late; tests/integration/sink puts records back",
    "k2_commits_fenced_total": "takes a second sink on the same partition; tests/chaos has three",
    "k2_commits_failed_total": "takes a catalogue that is unavailable; tests/chaos takes it away",
    "k2_commits_conflicted_total": "takes a race that no test can make come",
    "k2_maintenance_passes_failed_total": "takes a warehouse that is unavailable, or a race that is lost",
    "k2_engine_spilled_bytes": "takes a sort larger than the engine's memory",
}
"""What does not move in this run, or not in each, and why."""
SERIES = 100
"""More label sets than any metric declares."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, programs: Programs) -> Iterator[Observed]:
    with observed_run(tmp_path_factory.mktemp("observed"), CACHE, programs) as observed:
        yield observed


def test_every_panel_of_every_board_shows_something(run: Observed) -> None:
    silent = []
    for board, panel, query in QUERIES:
        series = run.over_time(query.expr, step=2)
        values = [float(value) for entry in series for _, value in entry["values"]]
        labels = {name for entry in series for name in entry["metric"]}
        named = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        if not any(map(math.isfinite, values)) or not named <= labels:
            silent.append(f"{board.title}: {panel.title}: {substituted(query.expr)}")
    assert silent == []


def test_every_choice_of_a_board_has_values(run: Observed) -> None:
    for board in BOARDS:
        for choice in [entry for entry in board.variables if isinstance(entry, Choice)]:
            assert any(choice.name in labels for labels in run.prometheus.series(choice.metric)), board.uid


def test_every_metric_of_the_reference_is_seen(run: Observed) -> None:
    assert [metric.name for metric in DECLARED if not run.prometheus.series(_series(metric))] == []


def test_every_metric_that_can_move_does(run: Observed) -> None:
    unmoved = {metric.name for metric in DECLARED if not _moved(run, metric)}
    assert unmoved - UNMOVED.keys() == set()


def test_what_no_service_declares_is_not_scraped(run: Observed) -> None:
    known = {_series(metric) for metric in DECLARED}
    found = {labels["__name__"] for labels in run.prometheus.series('{__name__=~"(k2|process)_.+"}')}
    parts = {name for name in found if name.endswith(("_bucket", "_sum", "_count"))}
    assert found - parts <= known


def test_a_series_has_the_labels_that_its_metric_declares(run: Observed) -> None:
    for metric in DECLARED:
        found = [
            {name: value for name, value in labels.items() if name not in {*OWN, "__name__"}}
            for labels in run.prometheus.series(_series(metric))
        ]
        assert [labels for labels in found if not metric.allows(labels)] == [], metric.name
        assert len({tuple(sorted(labels.items())) for labels in found}) <= SERIES, metric.name


def test_no_label_names_what_was_loaded_or_who_asked(run: Observed) -> None:
    told = {*run.told.uploads, *run.told.symbols, *run.told.others}
    assert len(run.told.uploads) > 20
    values = {value for labels in run.prometheus.series('{job=~".+"}') for value in labels.values()}
    assert {value for value in values if any(word in value for word in told)} == set()


def test_the_killed_sink_is_seen_and_comes_back(run: Observed) -> None:
    (sink,) = run.samples('up{job="iceberg-sink"}')
    values = [value for _, value in sink["values"]]
    assert "0" in values
    assert values[-1] == "1"


def test_what_went_wrong_is_alerted_and_nothing_is_said_of_lost_rows(run: Observed) -> None:
    fired = run.prometheus.query(
        f'max_over_time(ALERTS{{alertstate="firing"}}[{run.seconds}s])', at=run.ended
    )
    told = {(entry["metric"]["alertname"], entry["metric"].get("job")) for entry in fired}
    assert {("K2ServiceRestarted", "iceberg-sink"), ("K2DeadLetters", None)} <= told
    assert {"K2RowsUnaccounted", "K2UploadLate", "K2UploadsExpired"} & {name for name, _ in told} == set()


def test_no_row_is_unaccounted_for_in_the_end(run: Observed) -> None:
    # The terms are read one after another; what is lost stays lost.
    least = "min_over_time(abs(k2_rows_unaccounted)[30s:1s])"
    found = {
        entry["metric"]["table"]: entry["value"][1] for entry in run.prometheus.query(least, at=run.ended)
    }
    assert "market.trades" in found
    assert {table: rows for table, rows in found.items() if rows != "0"} == {}


def _series(metric: Declared) -> str:
    return f"{metric.name}_count" if metric.kind == "histogram" else metric.name


def _moved(run: Observed, metric: Declared) -> bool:
    samples = run.samples(_series(metric))
    return any(_changes(entry, run.started) for entry in samples)


def _changes(entry: Mapping[str, Any], started: float) -> bool:
    values = {float(value) for _, value in entry["values"]}
    # A series of a label that is counted for the first time begins with what was counted.
    appeared = entry["values"][0][0] > started + 2 and values != {0.0}
    return len(values) > 1 or appeared
