"""Generated files are the same for the same seed, are read without a reject and have what real ones have."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from k2common.layouts.catalogue import layout_named
from k2common.layouts.cutter import read_header
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.mapping import (
    FLAG_CROSSED,
    FLAG_LOCKED,
    FLAG_OFF_MARKET,
    FLAG_ONE_SIDED,
    FLAG_RECEIVED_BEFORE_EVENT,
)
from k2common.layouts.parser import parse
from k2common.layouts.upload import UploadSpec
from k2common.testing.generator import OFF_MARKET, asx_files, decimal_text, quotes_csv, trades_csv

ROWS = 20_000


def rows(
    data: bytes,
    *,
    layout: str = "k2",
    dataset: str,
    filename: str | None = None,
    instruments: InstrumentIndex | None = None,
) -> pa.Table:
    """The rows of a file; none may be refused."""
    known = layout_named(layout, dataset=dataset)
    header = read_header(io.BytesIO(data), known)
    start = 0 if header is None else header.after.byte
    spec = UploadSpec(
        upload_id="U1",
        dataset=dataset,
        layout=layout,
        layout_json=known.canonical_json,
        source="test",
        bytes=len(data),
        sha256="",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        filename=filename,
    )
    parsed = parse(
        data[start:],
        layout=known,
        header=None if header is None else header.text,
        first_byte=start,
        first_line=1 if header is None else header.after.line,
        spec=spec,
        instruments=instruments,
    )
    assert parsed.errors == {}
    assert parsed.rows_accepted == parsed.rows_read == parsed.rows.num_rows
    return pa.Table.from_batches([parsed.rows])


def lines(data: bytes) -> list[bytes]:
    return data.splitlines()


def flagged(table: pa.Table, flag: int) -> int:
    return int(pc.sum(pc.equal(pc.bit_wise_and(table["flags"], flag), flag)).as_py())


def never_falls(values: list[int]) -> bool:
    return all(first <= second for first, second in pairwise(values))


@pytest.fixture(scope="module")
def trades() -> pa.Table:
    return rows(trades_csv(ROWS, seed=1, days=2), dataset="trades")


@pytest.fixture(scope="module")
def quotes() -> pa.Table:
    return rows(quotes_csv(ROWS, seed=1, days=2), dataset="quotes")


@pytest.fixture(scope="module")
def asx() -> dict[str, bytes]:
    return asx_files(ROWS, seed=1)


@pytest.fixture(scope="module")
def companies(asx: dict[str, bytes]) -> InstrumentIndex:
    return InstrumentIndex(rows(asx["company_info.csv"], layout="asx-company-info", dataset="instruments"))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    for make in (trades_csv, quotes_csv):
        assert make(1_000, seed=7) == make(1_000, seed=7)
        assert make(1_000, seed=7) != make(1_000, seed=8)
    assert asx_files(1_000, seed=7) == asx_files(1_000, seed=7)
    assert asx_files(1_000, seed=7) != asx_files(1_000, seed=8)


@pytest.mark.parametrize("count", [0, 1, 2, 777])
def test_a_file_has_as_many_rows_as_were_asked_for(count: int) -> None:
    assert len(lines(trades_csv(count, seed=1))) == count + 1
    assert len(lines(quotes_csv(count, seed=1))) == count + 1
    files = asx_files(count, seed=1)
    assert [len(lines(files[name])) for name in ("trades/7078.csv", "quotes/7078.csv")] == [count, count]


def test_parameters_say_symbols_venue_and_days() -> None:
    table = rows(
        trades_csv(5_000, seed=1, symbols=3, venue="XYZ", day=date(2025, 12, 31), days=2), dataset="trades"
    )
    assert set(table["symbol"].to_pylist()) == {"SYM000", "SYM001", "SYM002"}
    assert set(table["venue"].to_pylist()) == {"XYZ"}
    assert set(table["trading_date"].to_pylist()) == {date(2025, 12, 31), date(2026, 1, 1)}


def test_times_never_fall_and_are_often_equal(trades: pa.Table, quotes: pa.Table) -> None:
    for table in (trades, quotes):
        times = table["ts_event_ns"].to_pylist()
        assert never_falls(times)
        assert len(set(times)) < 0.7 * ROWS
        assert any(time % 1_000 for time in times)
    assert 0 < flagged(trades, FLAG_RECEIVED_BEFORE_EVENT) < 0.02 * ROWS


def test_rows_are_equal_in_every_column() -> None:
    for data in (trades_csv(ROWS, seed=1), quotes_csv(ROWS, seed=1), *asx_files(ROWS, seed=1).values()):
        found = lines(data)
        if len(found) >= ROWS:
            assert 0.01 * ROWS < len(found) - len(set(found)) < 0.2 * ROWS


def test_prints_off_the_market_have_their_conditions_and_prices(trades: pa.Table) -> None:
    of_symbol = trades.filter(pc.equal(trades["symbol"].cast(pa.string()), "SYM000"))
    off = [not set(OFF_MARKET).isdisjoint(words) for words in of_symbol["conditions"].to_pylist()]
    prices = of_symbol["price"].to_pylist()
    usual = [price for price, is_off in zip(prices, off, strict=True) if not is_off]
    assert 0 < sum(off) < 0.02 * len(off)
    assert (
        not min(usual)
        <= max(price for price, is_off in zip(prices, off, strict=True) if is_off)
        <= max(usual)
    )


def test_prices_are_decimals_with_trimmed_zeros(trades: pa.Table) -> None:
    cells = [line.split(b",")[4:6] for line in lines(trades_csv(ROWS, seed=1))[1:]]
    assert not [cell for pair in cells for cell in pair if b"." in cell and cell.endswith((b"0", b"."))]
    assert not [cell for pair in cells for cell in pair if b"E" in cell or Decimal(cell.decode()) <= 0]
    places = {len(price.partition(b".")[2]) for price, _ in cells}
    assert {0, 1, 2, 3, 4, 8} <= places


def test_sequences_count_by_symbol_and_day_with_breaks(trades: pa.Table) -> None:
    steps: dict[tuple[str, date], list[int]] = {}
    for symbol, day, sequence in zip(
        *(trades[name].to_pylist() for name in ("symbol", "trading_date", "sequence")), strict=True
    ):
        steps.setdefault((symbol, day), []).append(sequence)
    gaps = [second - first for found in steps.values() for first, second in pairwise(found)]
    assert len(steps) == 40
    assert {0, 1} < set(gaps)
    assert min(gaps) == 0
    assert 0 < sum(gap > 1 for gap in gaps) < 0.01 * ROWS


def test_quotes_are_crossed_locked_and_one_sided_at_times(quotes: pa.Table) -> None:
    for flag in (FLAG_CROSSED, FLAG_LOCKED, FLAG_ONE_SIDED):
        assert 0 < flagged(quotes, flag) < 0.02 * ROWS
    for side in ("bid", "ask"):
        assert 0 < quotes[f"{side}_price"].null_count == quotes[f"{side}_size"].null_count


def test_trades_lie_near_the_quotes_of_their_seed(trades: pa.Table, quotes: pa.Table) -> None:
    for symbol in ("SYM000", "SYM001", "SYM002", "SYM003"):
        traded, quoted = (
            pc.mean(
                pc.cast(table.filter(pc.equal(table["symbol"].cast(pa.string()), symbol))[name], "double")
            )
            for table, name in ((trades, "price"), (quotes, "bid_price"))
        )
        assert abs(traded.as_py() / quoted.as_py() - 1) < 0.01


def test_asx_trades_are_read_with_the_reference_data(
    asx: dict[str, bytes], companies: InstrumentIndex
) -> None:
    data = asx["trades/7078.csv"]
    table = rows(data, layout="asx-trades", dataset="trades", filename="7078.csv", instruments=companies)
    assert data.count(b"\r\n") == data.count(b"\n") == ROWS
    assert set(table["symbol"].to_pylist()) == {"BHP"}
    assert set(table["trading_date"].to_pylist()) == {date(2014, 3, day) for day in range(10, 15)}
    assert never_falls(table["ts_event_ns"].to_pylist())
    assert 0 < flagged(table, FLAG_OFF_MARKET) < 0.01 * ROWS
    hours = {line.split(b",")[1][:5] for line in lines(data)}
    assert (min(hours), max(hours)) == (b"10:00", b"16:58")


def test_asx_quotes_are_read_with_the_reference_data(
    asx: dict[str, bytes], companies: InstrumentIndex
) -> None:
    data = asx["quotes/7078.csv"]
    table = rows(data, layout="asx-quotes", dataset="quotes", filename="7078.csv", instruments=companies)
    assert b",0.0," in data
    for flag in (FLAG_CROSSED, FLAG_LOCKED, FLAG_ONE_SIDED):
        assert 0 < flagged(table, flag) < 0.02 * ROWS


def test_decimal_text_is_exact_and_may_keep_a_point() -> None:
    units = np.array([100_000_000, 0, 7, 12_345, 3_000_050_000])
    assert decimal_text(units).to_pylist() == ["1", "0", "0.00000007", "0.00012345", "30.0005"]
    assert decimal_text(units, point=".0").to_pylist() == [
        "1.0",
        "0.0",
        "0.00000007",
        "0.00012345",
        "30.0005",
    ]
    assert decimal_text(units, missing=units == 0).to_pylist()[1] is None
