"""What the running fleet says of itself: only what is declared, and that no row was lost or doubled."""

import time
from collections.abc import Iterator, Mapping

from k2local.testing import Fleet
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.metrics import ENGINE, EVERY, READERS, SERVICES, declared
from tests.e2e.files import file_of, trades, unique_symbol

SETTLED_SECONDS = 120.0
ENDS = ("_bucket", "_sum", "_count", "_created")
READING = ("iceberg-sink", "query-service", "replay-service")
LABELS_OF_HISTOGRAMS = {"le"}


def samples(fleet: Fleet, service: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for family in text_string_to_metric_families(fleet.get(service, "/metrics").text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def gauges(fleet: Fleet, service: str, name: str) -> Mapping[tuple[str, ...], float]:
    found = samples(fleet, service)
    return {tuple(labels.values()): value for given, labels, value in found if given == name}


def test_no_service_gives_a_metric_or_a_label_that_is_not_declared(fleet: Fleet) -> None:
    lines = trades(unique_symbol(), 20)
    fleet.upload(file_of([*lines, "one,two"]), dataset="trades")
    for service in SERVICES:
        sections = declared()
        own = [*sections[service], *sections[EVERY]]
        if service in ENGINE:
            own += sections[ENGINE]
        if service in READING:
            own += sections[READERS]
        known = {metric.name: metric for metric in own}
        for name, labels, _ in samples(fleet, service):
            base = next((name.removesuffix(end) for end in ENDS if name.endswith(end)), name)
            metric = known.get(name) or known.get(base) or known.get(f"{base}_total")
            assert metric is not None, (service, name)
            kept = {key: value for key, value in labels.items() if key not in LABELS_OF_HISTOGRAMS}
            assert metric.allows(kept), (service, name, labels)


def test_all_rows_of_the_run_are_accounted_for(fleet: Fleet) -> None:
    lines = trades(unique_symbol(), 500)
    lines[7] = "only,three,fields"
    receipt = fleet.upload(file_of(lines), dataset="trades")
    assert (receipt["rows"]["committed"], receipt["rows"]["rejected"]) == (499, 1)
    deadline = time.monotonic() + SETTLED_SECONDS
    terms: Mapping[tuple[str, ...], float] = {}
    while terms.get(("market.trades", "stated"), 0) < 499 or any(
        value for (_, term), value in terms.items() if term == "uncommitted"
    ):
        assert time.monotonic() < deadline, terms
        time.sleep(0.5)
        terms = gauges(fleet, "ingest-gateway", "k2_rows_conserved")
    assert terms["market.trades", "committed"] >= 499
    assert terms["ingest.rejects", "committed"] >= 1
    unaccounted = gauges(fleet, "ingest-gateway", "k2_rows_unaccounted")
    assert {("market.trades",), ("ingest.rejects",)} <= unaccounted.keys()
    assert set(unaccounted.values()) == {0}, terms
    assert gauges(fleet, "ingest-gateway", "k2_uploads_unfinished_oldest_seconds") == {(): 0}
