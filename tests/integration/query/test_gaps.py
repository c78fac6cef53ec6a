"""Differences, gaps with their cause, and the condition of a dataset, on tables with a known answer."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from iceberg_sink.gaps.gaps import GapFinder
from iceberg_sink.metrics import SinkMetrics
from iceberg_sink.settings import GapSettings
from k2common.columnar.sorting import sorted_rows
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.data_files import write
from k2common.iceberg.gaps import GapStore
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import REJECTS, TRADES
from k2common.settings.iceberg import IcebergSettings
from k2common.testing.iceberg import START, first_version, folder_catalog, trade_rows
from k2common.versions.hidden import HiddenUpload, Reason
from prometheus_client import CollectorRegistry

from tests.integration.query.serving import client, serving

MICROS = pa.timestamp("us", "UTC")
Hidings = dict[str, HiddenUpload] | None
RETRACTED = HiddenUpload(reason=Reason.RETRACTED)


def at(text: str) -> int:
    """Microseconds since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


class Tables:
    def __init__(self, settings: IcebergSettings) -> None:
        self.settings = settings
        self.catalog: Catalog = open_catalog(settings)
        ensure_tables(self.catalog)

    def trades(
        self,
        times: Sequence[str],
        numbers: Sequence[int | None],
        *,
        day: str,
        upload: str,
        symbol: str = "BHP",
        venue: str = "XASX",
        asset_class: str = "equity",
        lines: Sequence[int] = (),
        hidden: Hidings = None,
    ) -> None:
        head = head_version(load_table(self.catalog, TRADES.table))
        first = 0 if head is None else head.offsets.get(0, 0)
        count = len(times)
        rows = trade_rows(first, count, upload=upload, symbol=symbol)
        stamps = pa.array([at(text) for text in times], pa.int64())
        columns: dict[str, Any] = {
            "venue": pa.array([venue] * count, pa.string()),
            "asset_class": pa.array([asset_class] * count, pa.string()),
            "trading_date": pa.array([date.fromisoformat(day)] * count, pa.date32()),
            "ts_event": stamps.cast(MICROS),
            "ts_event_ns": pa.array([at(text) * 1000 for text in times], pa.int64()),
            "sequence": pa.array(numbers, pa.int64()),
            "line": pa.array(lines or range(2, count + 2), pa.int64()),
        }
        for name, column in columns.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
        self._commit(TRADES, sorted_rows(rows, TRADES.order), first=first, hidden=hidden)

    def rejects(self, upload: str, lines: Sequence[int]) -> None:
        head = head_version(load_table(self.catalog, REJECTS.table))
        first = 0 if head is None else head.offsets.get(0, 0)
        count = len(lines)
        texts = {"upload_id": upload, "dataset": "trades", "source": "test", "filename": None, "code": "X"}
        columns: dict[str, Any] = {n: pa.array([v] * count, pa.string()) for n, v in texts.items()}
        columns |= {
            "ts_ingest": pa.array([START] * count, MICROS),
            "column": pa.array([None] * count, pa.string()),
            "message": pa.array(["no"] * count, pa.string()),
            "line": pa.array(lines, pa.int64()),
            "byte_offset": pa.array([0] * count, pa.int64()),
            "raw": pa.array(["raw"] * count, pa.string()),
            "kafka_epoch": pa.array([0] * count, pa.int32()),
            "kafka_partition": pa.array([0] * count, pa.int32()),
            "kafka_offset": pa.array(range(first, first + count), pa.int64()),
        }
        self._commit(REJECTS, pa.table(columns), first=first, hidden=None)

    def hide(self, hidden: dict[str, HiddenUpload]) -> None:
        self._commit(TRADES, pa.table({}), first=0, hidden=hidden)

    def _commit(self, dataset: Any, rows: pa.Table, *, first: int, hidden: Hidings) -> None:
        head = head_version(load_table(self.catalog, dataset.table))
        known = head or first_version(dataset.table)
        offsets = {0: first + rows.num_rows} if rows.num_rows else {}
        version = known.successor(
            now=START, offsets=offsets, hidden=known.hidden if hidden is None else hidden
        )
        expected = {0: None if head is None else head.offsets.get(0)} if offsets else {}
        table = load_table(self.catalog, dataset.table)
        files = write(rows, table=table) if rows.num_rows else []
        proposal = Proposal(
            table=dataset.table, epoch=0, change=lambda _: version, expected=expected, files=files
        )
        commit(self.catalog, proposal)

    def follow(self) -> None:
        """The work of the sink's job."""
        finder = GapFinder(
            self.catalog,
            GapSettings(memory_megabytes=128),
            warehouse=self.settings,
            metrics=SinkMetrics(CollectorRegistry()),
        )
        store = GapStore(self.catalog)
        finder.begin(store.load())
        found = finder.step(now=START)
        if found is not None:
            retention = Retention(live=30, recorded=lambda _: False)
            store.commit(finder.progress, found.progress, found.events, now=START, retention=retention)
        finder.close()


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(folder_catalog(tmp_path))


@pytest.fixture
async def http(tables: Tables) -> AsyncIterator[httpx.AsyncClient]:
    with serving(tables.catalog) as app:
        async with client(app) as opened:
            yield opened


async def get(http: httpx.AsyncClient, path: str, **parameters: Any) -> dict[str, Any]:
    answer = await http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# Sydney is eleven hours ahead: the session of 11 March 2014 is 23:00 to 05:00 UTC.
OPEN, CLOSE = "2014-03-10T23:00:00", "2014-03-11T05:00:00"


async def test_every_silence_has_its_cause(tables: Tables, http: httpx.AsyncClient) -> None:
    tables.trades(
        [OPEN, "2014-03-10T23:10:00", "2014-03-11T01:00:00", "2014-03-11T04:59:00"],
        [1, 2, 5, 6],
        day="2014-03-11",
        upload="U1",
        lines=[2, 3, 4, 9],
    )
    tables.trades([OPEN, CLOSE[:-5] + "00:00"], [1, 2], day="2014-03-13", upload="U2", symbol="RIO")
    tables.rejects("U1", [5, 6, 20])
    tables.follow()

    answer = await get(
        http, "/v1/gaps", symbols="BHP,XYZ", start="2014-03-10T23:00:00", end="2014-03-12T06:00:00"
    )

    found = [(i["cause"], i["start"][5:16], i["end"][5:16]) for i in answer["data"]]
    assert found == [
        # No number 3 and 4; no line between the rows was rejected.
        ("no_activity", "03-10T23:10", "03-11T01:00"),
        ("sequence_break", "03-10T23:10", "03-11T01:00"),
        # Lines 5 and 6 were rejected, between lines 4 and 9.
        ("rejected_rows", "03-11T01:00", "03-11T04:59"),
        ("session_closed", "03-11T05:00", "03-11T23:00"),
        ("not_ingested", "03-11T23:00", "03-12T05:00"),
        ("session_closed", "03-12T05:00", "03-12T06:00"),
    ]
    broken, rejected = answer["data"][1], answer["data"][2]
    assert (broken["first_sequence"], broken["count"], broken["trading_date"]) == ("3", "2", "2014-03-11")
    assert broken["evidence"]["kind"] == "small_gap"
    assert broken["evidence"]["position"] == [0, 0, 2]
    assert (rejected["evidence"]["rejected"], rejected["evidence"]["calendar"]) == (2, "XASX")
    assert answer["meta"]["unresolved"] == ["XYZ"]
    assert answer["meta"]["version"] == "ingest.rejects@1,gaps@1,trades@2"
    assert answer["meta"]["warnings"] == []


async def test_a_trading_date_is_a_session_and_causes_can_be_chosen(
    tables: Tables, http: httpx.AsyncClient
) -> None:
    tables.trades([OPEN, "2014-03-11T03:00:00"], [1, 9], day="2014-03-11", upload="U1")
    tables.follow()
    silent = await get(http, "/v1/gaps", trading_date="2014-03-11", causes="no_activity", timeframe="15Min")
    assert [(i["start"][5:16], i["end"][5:16]) for i in silent["data"]] == [
        ("03-10T23:00", "03-11T03:00"),
        ("03-11T03:00", "03-11T05:00"),
    ]
    broken = await get(http, "/v1/gaps", trading_date="2014-03-11", causes="sequence_break")
    assert [(i["first_sequence"], i["count"]) for i in broken["data"]] == [("2", "7")]


async def test_numbers_that_javascript_cannot_hold_are_text(tables: Tables, http: httpx.AsyncClient) -> None:
    first, last = 2**53 + 1, 2**63 - 2
    for upload, symbol in (("U1", "BHP"), ("U2", "RIO"), ("U3", "CBA")):
        tables.trades([OPEN, OPEN], [first, last], day="2014-03-11", upload=upload, symbol=symbol)
    tables.follow()
    gaps = (await get(http, "/v1/gaps", trading_date="2014-03-11", causes="sequence_break"))["data"]
    missing = last - first - 1
    assert [(gap["first_sequence"], gap["count"]) for gap in gaps] == [(str(first + 1), str(missing))] * 3
    assert {gap["evidence"]["previous_sequence"] for gap in gaps} == {str(first)}
    (day,) = (await get(http, "/v1/datasets/trades/condition"))["data"]
    assert (day["gaps"], day["missing_sequences"]) == (3, str(3 * missing))


async def test_a_gap_that_rejected_records_explain_says_so(tables: Tables, http: httpx.AsyncClient) -> None:
    tables.trades([OPEN, OPEN], [1, 3], day="2014-03-11", upload="U1", lines=[2, 4])
    tables.rejects("U1", [3])
    tables.follow()
    answer = await get(http, "/v1/gaps", trading_date="2014-03-11", causes="rejected_rows,sequence_break")
    (only,) = [i for i in answer["data"] if i["first_sequence"] is not None]
    assert (only["cause"], only["first_sequence"], only["count"]) == ("rejected_rows", "2", "1")
    assert only["evidence"]["rejected"] == 1


async def test_healed_gaps_are_told_on_demand_and_days_that_were_followed_anew_anew(
    tables: Tables, http: httpx.AsyncClient
) -> None:
    asked = {"trading_date": "2014-03-11", "causes": "sequence_break"}
    tables.trades([OPEN, OPEN], [1, 4], day="2014-03-11", upload="U1")
    tables.follow()
    tables.trades(["2014-03-10T22:59:59"] * 2, [2, 3], day="2014-03-11", upload="U2")
    tables.follow()
    assert (await get(http, "/v1/gaps", **asked))["data"] == []
    (healed,) = (await get(http, "/v1/gaps", **asked, healed="true"))["data"]
    assert (healed["count"], healed["evidence"]["healed"]) == ("2", "2")
    # As of the version before it is open.
    (before,) = (await get(http, "/v1/gaps", **asked, as_of="trades@1"))["data"]
    assert (before["count"], before["evidence"]["healed"]) == ("2", "0")
    tables.hide({"U2": RETRACTED})
    tables.follow()
    (again,) = (await get(http, "/v1/gaps", **asked, as_of="trades@3,gaps@3"))["data"]
    assert (again["first_sequence"], again["count"], again["evidence"]["healed"]) == ("2", "2", "0")
    assert again["evidence"]["event"] > before["evidence"]["event"]


async def test_a_venue_that_never_closes_has_no_session(tables: Tables, http: httpx.AsyncClient) -> None:
    for day in ("2014-03-08", "2014-03-10"):
        tables.trades(
            [f"{day}T12:00:00"],
            [None],
            day=day,
            upload=f"U{day}",
            venue="BINANCE",
            symbol="BTC",
            asset_class="crypto",
        )
    asked = {"start": "2014-03-08T12:00:00", "end": "2014-03-10T12:00:01", "timeframe": "1Day"}
    answer = await get(http, "/v1/gaps", **asked)
    assert [(i["cause"], i["start"][5:16], i["end"][5:16]) for i in answer["data"]] == [
        ("not_ingested", "03-09T00:00", "03-10T00:00")
    ]
    assert answer["data"][0]["evidence"] == {"calendar": "24/7"}
    assert answer["meta"]["warnings"] == ["GAPS_BEHIND: sequence numbers are followed up to trades@0"]


async def test_pages_meet_and_name_one_version(tables: Tables, http: httpx.AsyncClient) -> None:
    tables.trades([OPEN] * 6, [1, 3, 5, 7, 9, 11], day="2014-03-11", upload="U1")
    tables.follow()
    asked = {"trading_date": "2014-03-11", "causes": "sequence_break", "limit": 2}
    numbers: list[str] = []
    token = None
    while True:
        extra = {} if token is None else {"page_token": token}
        page = await get(http, "/v1/gaps", **asked, **extra)
        numbers += [i["first_sequence"] for i in page["data"]]
        assert page["meta"]["version"] == "gaps@1,trades@1"
        tables.trades([OPEN] * 2, [20, 30], day="2014-03-11", upload="U2")
        tables.follow()
        # The service learns of the newer version.
        assert (await get(http, "/v1/versions", table="market.trades"))["data"][0]["number"] > 1
        if (token := page["next_page_token"]) is None:
            break
    assert numbers == ["2", "4", "6", "8", "10"]


async def test_a_difference_says_what_was_added_and_taken_back(
    tables: Tables, http: httpx.AsyncClient
) -> None:
    tables.trades([OPEN] * 3, [1, 2, 3], day="2014-03-11", upload="U1")
    tables.trades([OPEN] * 2, [1, 2], day="2014-03-11", upload="U2", symbol="RIO")
    tables.trades([OPEN] * 4, [4, 5, 6, 7], day="2014-03-12", upload="U3", hidden={"U1": RETRACTED})
    compact(tables.catalog, TRADES.table, order=TRADES.order, max_rows=1_000)

    answer = await get(http, "/v1/diff", **{"from": "trades@1", "to": "trades@3"})

    found = [(d["change"], d["upload_id"], d["symbol"], d["trading_date"], d["rows"]) for d in answer["data"]]
    assert found == [
        ("added", "U2", "RIO", "2014-03-11", 2),
        ("added", "U3", "BHP", "2014-03-12", 4),
        ("taken_back", "U1", "BHP", "2014-03-11", 3),
    ]
    assert [d["reason"] for d in answer["data"]] == [None, None, "retracted"]
    assert (answer["meta"]["from"], answer["meta"]["to"]) == ("trades@1", "trades@3")
    backwards = await get(http, "/v1/diff", **{"from": "trades@3", "to": "trades@1", "symbols": "BHP"})
    assert [(d["change"], d["upload_id"], d["rows"]) for d in backwards["data"]] == [
        ("added", "U1", 3),
        ("taken_back", "U3", 4),
    ]
    assert (await get(http, "/v1/diff", **{"from": "trades@3"}))["data"] == []
    first = await get(http, "/v1/diff", **{"from": "trades@1", "limit": 2})
    rest = await get(
        http, "/v1/diff", **{"from": "trades@1", "limit": 2, "page_token": first["next_page_token"]}
    )
    assert [*first["data"], *rest["data"]] == answer["data"]


async def test_the_condition_of_each_day(tables: Tables, http: httpx.AsyncClient) -> None:
    tables.trades([OPEN, OPEN, OPEN], [1, None, 5], day="2014-03-11", upload="U1")
    tables.trades(["2014-03-12T23:30:00"], [6], day="2014-03-13", upload="U2")
    tables.trades(["2014-03-13T23:30:00"], [7], day="2014-03-14", upload="U3")
    tables.rejects("U3", [9, 10])
    tables.follow()
    answer = await get(http, "/v1/datasets/trades/condition", end_date="2014-03-15")
    days = {entry["trading_date"]: entry for entry in answer["data"]}
    assert {day: entry["condition"] for day, entry in days.items()} == {
        "2014-03-11": "degraded",
        "2014-03-12": "missing",
        "2014-03-13": "available",
        "2014-03-14": "degraded",
    }
    first, last = days["2014-03-11"], days["2014-03-14"]
    assert (first["rows"], first["without_sequence"], first["gaps"], first["missing_sequences"]) == (
        3,
        1,
        1,
        "3",
    )
    assert (last["rejects"], last["uploads"], last["dead_letters"]) == (2, 1, 0)
    assert days["2014-03-12"]["rows"] == 0
    older = await get(http, "/v1/datasets/trades/condition", as_of="trades@1")
    assert [entry["trading_date"] for entry in older["data"]] == ["2014-03-11"]


async def test_tables_without_a_version_give_nothing(http: httpx.AsyncClient) -> None:
    for path, asked in (
        ("/v1/gaps", {"trading_date": "2014-03-11"}),
        ("/v1/datasets/quotes/condition", {}),
    ):
        assert (await get(http, path, **asked))["data"] == []


@pytest.mark.parametrize(
    ("path", "parameters", "named"),
    [
        ("/v1/gaps", {}, "start"),
        ("/v1/gaps", {"start": "2014-03-11"}, "start"),
        ("/v1/gaps", {"start": "2014-03-11", "end": "2016-03-11"}, "end"),
        ("/v1/gaps", {"trading_date": "2014-03-11", "start": "2014-03-11"}, "trading_date"),
        ("/v1/gaps", {"trading_date": "2014-03-11", "causes": "bad_luck"}, "causes"),
        ("/v1/gaps", {"trading_date": "2014-03-11", "timeframe": "2Day"}, "timeframe"),
        ("/v1/gaps", {"trading_date": "2014-03-11", "symbol": "BHP"}, "symbol"),
        ("/v1/diff", {}, "from"),
        ("/v1/diff", {"from": "2000-01-01"}, "from"),
        ("/v1/diff", {"from": "trades@1", "limit": "0"}, "limit"),
        (
            "/v1/datasets/trades/condition",
            {"start_date": "2014-03-12", "end_date": "2014-03-11"},
            "end_date",
        ),
    ],
)
async def test_a_wrong_parameter_is_named(
    tables: Tables, http: httpx.AsyncClient, path: str, parameters: dict[str, str], named: str
) -> None:
    tables.trades([OPEN], [1], day="2014-03-11", upload="U1")
    answer = await http.get(path, params=parameters)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["parameter"] == named


async def test_an_answer_that_holds_is_not_given_again(tables: Tables, http: httpx.AsyncClient) -> None:
    tables.trades([OPEN], [1], day="2014-03-11", upload="U1")
    for path in ("/v1/gaps?trading_date=2014-03-11", "/v1/datasets/trades/condition"):
        first = await http.get(path)
        again = await http.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (first.status_code, again.status_code) == (200, 304)


async def test_a_token_of_another_request_is_refused(tables: Tables, http: httpx.AsyncClient) -> None:
    tables.trades([OPEN] * 3, [1, 3, 5], day="2014-03-11", upload="U1")
    tables.follow()
    page = await get(http, "/v1/gaps", trading_date="2014-03-11", causes="sequence_break", limit=1)
    answer = await http.get(
        "/v1/gaps", params={"trading_date": "2014-03-12", "page_token": page["next_page_token"]}
    )
    assert answer.status_code == 400
