"""A chunk gives the same messages on every try, and its status says all that they hold."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from csv_loader.processing import Chunk, Encoders, process, status
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.decode import RecordDecoder
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.record_batch import EncodedBatch, FetchedBatch, stamp
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import REJECTS, TRADES, avro_schema

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NS = 1_700_000_000_000_000_000
HEADER = "ts_event_ns,symbol,venue,price,size"
IDS = {"trades": 7, "rejects": 8}


def chunk(*lines: str, **fields: Any) -> Chunk:
    layout = layout_named("k2", dataset="trades")
    payload = "".join(f"{line}\n" for line in lines).encode()
    upload = UploadSpec(
        upload_id="U1",
        dataset="trades",
        layout="k2",
        layout_json=layout.canonical_json,
        source="s",
        bytes=len(payload),
        sha256="",
        received_at=NOW,
    )
    message = {
        "index": 3,
        "terminal": False,
        "failure": None,
        "cancelled": False,
        "first_line": 12,
        "first_byte": 500,
        "header": HEADER,
        "length": len(payload),
        "payload": pa.compress(payload, codec="zstd", asbytes=True),
    }
    return Chunk(message={**message, **fields}, upload=upload)


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    by_dataset = {name: RecordEncoder(avro_schema(name), number) for name, number in IDS.items()}
    return Encoders(by_dataset=by_dataset, batch_bytes=100_000)


def decoded(batches: Any, name: str) -> list[Mapping[str, Any]]:
    fetched = [as_fetched(batch) for batch in batches]
    schema = avro_schema(name)
    found = RecordDecoder(arrow_schema(schema)).decode(fetched, {IDS[name]: schema})
    assert not found.poison
    return list(found.rows.to_pylist())


def as_fetched(batch: EncodedBatch) -> FetchedBatch:
    payload = stamp(batch, producer_id=1, epoch=0, sequence=0, transactional=True)
    return FetchedBatch(
        partition=batch.partition,
        base_offset=0,
        count=batch.count,
        wanted_from=0,
        payload=memoryview(payload),
    )


def test_rows_and_rejects_go_to_their_topics_and_are_counted(encoders: Encoders) -> None:
    lines = [f"{NS},A,X,1.5,{n}" for n in range(5)] + [f"{NS},A,X,bad,1"]
    processed = process(chunk(*lines), encoders=encoders, instruments=None, now=NOW)
    assert [output.topic for output in processed.outputs] == [TRADES.topic.name, REJECTS.topic.name]
    rows = decoded(processed.outputs[0].batches, "trades")
    assert [(row["line"], int(row["size"])) for row in rows] == [(12 + n, n) for n in range(5)]
    (reject,) = decoded(processed.outputs[1].batches, "rejects")
    assert (reject["line"], reject["code"], reject["raw"]) == (17, "NUMBER_INVALID", lines[-1])
    assert (processed.rows_read, processed.rows_accepted, processed.rows_rejected) == (6, 5, 1)


def test_a_second_try_gives_the_same_bytes(encoders: Encoders) -> None:
    lines = [f"{NS + n},S{n % 9},X,1.5,{n}" for n in range(500)]
    tries = [process(chunk(*lines), encoders=encoders, instruments=None, now=NOW) for _ in range(2)]
    first, second = ([batch.payload for output in p.outputs for batch in output.batches] for p in tries)
    assert first == second


def test_rows_of_one_key_stay_in_the_order_of_the_file(encoders: Encoders) -> None:
    lines = [f"{NS},S{n % 5},X,1.5,{n}" for n in range(400)]
    processed = process(chunk(*lines), encoders=encoders, instruments=None, now=NOW)
    batches = processed.outputs[0].batches
    partitions: dict[str, set[int]] = {}
    for batch in batches:
        rows = decoded([batch], "trades")
        for symbol in {row["symbol"] for row in rows}:
            partitions.setdefault(symbol, set()).add(batch.partition)
            own = [row["line"] for row in rows if row["symbol"] == symbol]
            assert own == sorted(own)
    assert {len(found) for found in partitions.values()} == {1}


def test_the_status_says_where_everything_is(encoders: Encoders) -> None:
    processed = process(chunk(f"{NS},A,X,1.5,1", "bad"), encoders=encoders, instruments=None, now=NOW)
    places = [{"topic": "t", "partition": 1, "base_offset": 9, "count": 1}]
    message = status(processed, places, epoch=4, now=NOW)
    assert (message["index"], message["kafka_epoch"], message["outputs"]) == (3, 4, places)
    assert message["errors"] == [{"column": None, "code": "COLUMN_COUNT", "count": 1}]
    assert (message["rows_read"], message["failure"]) == (2, None)


@pytest.mark.parametrize("payload", [b"no zstd", pa.compress(b"short", codec="zstd", asbytes=True)])
def test_a_chunk_that_cannot_be_unpacked_is_a_failure_of_its_upload(
    encoders: Encoders, payload: bytes
) -> None:
    broken = chunk("x", payload=payload, length=10_000)
    processed = process(broken, encoders=encoders, instruments=None, now=NOW)
    assert (processed.failure, processed.outputs, processed.rows_read) == ("CHUNK_UNPARSEABLE", (), 0)


def test_the_terminal_chunk_has_no_rows(encoders: Encoders) -> None:
    end = chunk(terminal=True, length=0, payload=b"")
    processed = process(end, encoders=encoders, instruments=None, now=NOW)
    assert status(processed, [], epoch=0, now=NOW)["terminal"]
    assert processed.outputs == ()


def test_what_the_parser_raises_is_the_uploads_failure_with_its_reason(
    encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("cell 17")

    monkeypatch.setattr("k2common.layouts.parser.read_cells", broken)
    processed = process(chunk(f"{NS},A,X,1.5,1"), encoders=encoders, instruments=None, now=NOW)
    message = status(processed, [], epoch=0, now=NOW)
    assert message["failure"] == "CHUNK_UNPARSEABLE"
    assert message["failure_reason"] == "ZeroDivisionError: cell 17"
    assert processed.failure_cause is not None
    assert processed.failure_cause.startswith("ZeroDivisionError at test_processing.py:")
    assert (processed.outputs, processed.rows_read) == ((), 0)


def test_a_dataset_that_has_no_encoder_is_the_uploads_failure(encoders: Encoders) -> None:
    alien = chunk(f"{NS},A,X,1.5,1")
    alien = Chunk(message=alien.message, upload=replace(alien.upload, dataset="nonsense"))
    processed = process(alien, encoders=encoders, instruments=None, now=NOW)
    assert (processed.failure, processed.failure_reason) == ("CHUNK_UNPARSEABLE", "KeyError: 'nonsense'")
