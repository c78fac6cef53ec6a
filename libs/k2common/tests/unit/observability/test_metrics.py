"""A metric is there from the start, is read when it is asked for, and says which labels it may have."""

import pytest
from k2common.observability.metrics import CollectorRegistry, Declarations, Label

SIDE = Label(name="side", values=("buy", "sell"))
ROUTE = Label(name="route", bound="routes")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_counter_is_zero_for_every_listed_value_before_anything_happens(
    registry: CollectorRegistry,
) -> None:
    made = Declarations(registry)
    made.counter("k2_rows_seen", "Rows.", look="Now.", labels=[SIDE])
    made.counter("k2_calls_seen", "Calls.", look="Now.", labels=[SIDE, ROUTE])
    assert registry.get_sample_value("k2_rows_seen_total", {"side": "buy"}) == 0
    assert registry.get_sample_value("k2_rows_seen_total", {"side": "sell"}) == 0
    families = {family.name: family.samples for family in registry.collect()}
    assert families["k2_calls_seen"] == []


def test_a_scraped_gauge_is_as_its_source_is_then(registry: CollectorRegistry) -> None:
    values = {("buy",): 1.0}
    gauge = Declarations(registry).scraped("k2_rows_held", "Rows.", look="Now.", labels=[SIDE])
    assert registry.get_sample_value("k2_rows_held", {"side": "buy"}) is None
    gauge.source = lambda: values
    assert registry.get_sample_value("k2_rows_held", {"side": "buy"}) == 1
    values[("buy",)] = 2.0
    assert registry.get_sample_value("k2_rows_held", {"side": "buy"}) == 2


def test_an_age_grows_by_itself_until_it_is_told_anew_or_forgotten(registry: CollectorRegistry) -> None:
    now = [100.0]
    age = Declarations(registry, now=lambda: now[0]).aged(
        "k2_rows_waiting_seconds", "Age.", look="Now.", labels=[SIDE]
    )
    age.since(90.0, "buy")
    age.since(None, "sell")

    def read(side: str) -> float | None:
        return registry.get_sample_value("k2_rows_waiting_seconds", {"side": side})

    assert (read("buy"), read("sell")) == (10, 0)
    now[0] = 105.0
    assert (read("buy"), read("sell")) == (15, 0)
    age.forget("buy")
    assert read("buy") is None


def test_two_metrics_of_one_name_are_refused(registry: CollectorRegistry) -> None:
    made = Declarations(registry)
    made.scraped("k2_rows_held", "Rows.", look="Now.")
    with pytest.raises(ValueError, match="Duplicated"):
        made.gauge("k2_rows_held", "Rows.", look="Now.")


def test_a_declaration_says_which_labels_a_series_may_have(registry: CollectorRegistry) -> None:
    made = Declarations(registry)
    made.gauge("k2_rows_held", "Rows.", look="Now.", labels=[SIDE, ROUTE])
    made.histogram("k2_steps_finished_seconds", "Time.", look="Now.", buckets=(1.0,))
    held, steps = made.all
    assert held.allows({"side": "buy", "route": "/v1/{x}"})
    assert not held.allows({"side": "BHP", "route": "/"})
    assert not held.allows({"side": "buy"})
    assert steps.allows({})
    assert (held.unit, steps.unit) == ("rows", "seconds")
