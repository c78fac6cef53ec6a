"""What a server scraped is what promtool gets."""

from typing import Any

import pytest

from tests.observability.series import input_series, notation


def scraped(name: str, samples: list[tuple[float, str]], **labels: str) -> dict[str, Any]:
    return {"metric": {"__name__": name, **labels}, "values": samples}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["5"], "5"),
        (["1", "1", "1"], "1x2"),
        (["1", "3", "5", "7", "7"], "1+2x3 7"),
        (["7", "5", "3"], "7-2x2"),
        (["0.5", "1", "4"], "0.5 1 4"),
        (["1", "stale", "_", "_", "2"], "1 stale _x2 2"),
        (["_", "1"], "_ 1"),
    ],
)
def test_equal_and_evenly_growing_values_are_one_term(values: list[str], expected: str) -> None:
    assert notation(values) == expected


def test_a_series_is_on_the_grid_of_its_scrapes_though_they_are_not_quite_even() -> None:
    found = [scraped("up", [(100.0, "1"), (105.02, "1"), (109.98, "0"), (115.0, "1")], job="a")]
    assert input_series(found, start=100.0, step=5) == [{"series": 'up{job="a"}', "values": "1x1 0 1"}]


def test_a_series_that_a_scrape_does_not_find_is_stale_from_there_on() -> None:
    found = [
        scraped("up", [(100.0 + 5 * n, "1") for n in range(6)]),
        scraped("k2_a", [(102.0, "1"), (107.0, "2"), (127.0, "9")]),
    ]
    (value, _) = input_series(found, start=100.0, step=5)
    assert value == {"series": "k2_a{}", "values": "1 2 stale _x2 9"}


def test_one_scrape_that_came_late_is_no_gap() -> None:
    found = [scraped("k2_a", [(100.0, "1"), (110.0, "3"), (115.0, "3")])]
    assert input_series(found, start=100.0, step=5) == [{"series": "k2_a{}", "values": "1x1 3x1"}]


def test_points_in_time_count_from_the_start() -> None:
    found = [scraped("process_start_time_seconds", [(100.0, "40"), (105.0, "103.5")])]
    assert input_series(found, start=100.0, step=5)[0]["values"] == "-60 3.5"
