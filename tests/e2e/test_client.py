"""The Python client against the running fleet."""

from pathlib import Path
from uuid import uuid4

import pytest
from k2client import Client, K2HttpError
from k2local.testing import Fleet


def test_a_file_goes_in_and_its_rows_come_out(fleet: Fleet, tmp_path: Path) -> None:
    symbol = f"C{uuid4().hex[:10].upper()}"
    file = tmp_path / "trades.csv"
    rows = [f"{1_700_000_000_000_000_000 + n},{symbol},XTST,1.{n:04},5" for n in range(1_500)]
    file.write_text("\n".join(["ts_event_ns,symbol,venue,price,size", *rows, "bad"]))
    urls = {
        "gateway_url": fleet.url("ingest-gateway"),
        "query_url": fleet.url("query-service"),
        "replay_url": fleet.url("replay-service"),
    }
    with Client(**urls) as k2:
        posted = k2.upload(file, dataset="trades", source=symbol)
        receipt = k2.receipt(posted["upload_id"], wait_seconds=60)
        assert (receipt["state"], receipt["filename"]) == ("committed", "trades.csv")
        assert [reject["line"] for reject in k2.rejects(receipt["upload_id"])] == [1_502]
        assert [row["line"] for row in k2.trades(source=symbol)] == list(range(2, 1_502))
        assert receipt["upload_id"] in {entry["upload_id"] for entry in k2.uploads(source=symbol)}
        assert k2.versions("market.trades")[0]["number"] >= 1
        session = k2.replay(symbols=[symbol], as_of=receipt["version"])
        records = list(k2.replay_stream(session["session_id"]))
        assert [record["type"] for record in records[-2:]] == ["trade", "replay_completed"]
        assert records[-1]["rows"] == 1_500
        with pytest.raises(K2HttpError, match="VERSION_UNKNOWN"):
            list(k2.trades(as_of="trades@999999"))
