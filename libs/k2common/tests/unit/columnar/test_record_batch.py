"""Rows go into Kafka's record batches and come back, and a message that is none is named."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2common.columnar import decode
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.decode import DecodedRecords, RecordDecoder, SchemasNeeded
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.record_batch import (
    EncodedBatch,
    FetchedBatch,
    encode_batches,
    keys_of,
    read_header,
    records_section,
    split,
    stamp,
    unpacked_bytes,
)
from k2common.columnar.records import read_records, read_varint, write_varint
from k2common.schemas.datasets import avro_schema

SCHEMA_ID = 300
SCHEMA = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "venue", "type": "string"},
        {"name": "symbol", "type": "string"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "extra", "type": {"type": "map", "values": "string"}},
        {
            "name": "price",
            "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 28, "scale": 12}],
        },
        {"name": "note", "type": ["null", "string"]},
        {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["buy", "sell"]}},
        {"name": "line", "type": "long"},
    ],
}
ARROW = arrow_schema(SCHEMA)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "venue": st.sampled_from(["X", "Y"]),
            "symbol": st.text(max_size=3),
            "tags": st.lists(st.text(max_size=2), max_size=2),
            "extra": st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2).map(
                lambda pairs: list(pairs.items())
            ),
            "price": st.none() | st.decimals(-(10**15), 10**15, places=12),
            "note": st.none() | st.text(max_size=2),
            "side": st.sampled_from(["buy", "sell"]),
            "line": st.integers(-(2**63), 2**63 - 1),
        }
    ),
    min_size=1,
    max_size=20,
)


def encoded(rows: list[dict[str, Any]], *, partitions: int = 3, max_bytes: int = 200) -> list[EncodedBatch]:
    batch = pa.RecordBatch.from_pylist(rows, schema=ARROW)
    return encode_batches(
        batch,
        RecordEncoder(SCHEMA, SCHEMA_ID),
        keys=keys_of(batch, ("venue", "symbol")),
        partitions=partitions,
        timestamp_ms=1_700_000_000_000,
        max_bytes=max_bytes,
    )


def fetched(batches: Sequence[EncodedBatch]) -> list[FetchedBatch]:
    nexts: dict[int, int] = {}
    result = []
    for batch in batches:
        base = nexts.get(batch.partition, 100)
        nexts[batch.partition] = base + batch.count
        payload = stamp(batch, producer_id=9, epoch=1, sequence=0, transactional=True)
        result.append(
            FetchedBatch(
                partition=batch.partition,
                base_offset=base,
                count=batch.count,
                wanted_from=0,
                payload=memoryview(payload),
            )
        )
    return result


def decoded(batches: Sequence[FetchedBatch]) -> DecodedRecords:
    return RecordDecoder(ARROW).decode(batches, {SCHEMA_ID: SCHEMA})


@given(rows=ROWS)
def test_every_row_comes_back_once_and_in_order_per_key(rows: list[dict[str, Any]]) -> None:
    out = decoded(fetched(encoded(rows)))
    assert out.poison == []
    back = out.rows.to_pylist()
    assert len(back) == len(rows)
    for key in {(row["venue"], row["symbol"]) for row in rows}:
        sent = [row for row in rows if (row["venue"], row["symbol"]) == key]
        got = sorted(
            (row for row in back if (row["venue"], row["symbol"]) == key),
            key=lambda row: row["kafka_offset"],
        )
        assert len({row["kafka_partition"] for row in got}) == 1
        assert [{name: row[name] for name in ARROW.names} for row in got] == sent
    places = [(row["kafka_partition"], row["kafka_offset"]) for row in back]
    assert len(set(places)) == len(places)


@given(rows=ROWS)
def test_single_records_are_framed_messages_with_their_key(rows: list[dict[str, Any]]) -> None:
    (batch,) = fetched(encoded(rows, partitions=1, max_bytes=10**6))
    header = read_header(batch.payload)
    assert (header.count, header.is_transactional, header.is_control) == (len(rows), True, False)
    records = list(read_records(records_section(batch.payload), 100))
    assert [record.offset for record in records] == list(range(100, 100 + len(rows)))
    assert [record.key for record in records] == [f"{r['venue']}:{r['symbol']}".encode() for r in rows]
    messages = RecordEncoder(SCHEMA, SCHEMA_ID).messages(pa.RecordBatch.from_pylist(rows, schema=ARROW))
    assert [record.value for record in records] == messages.to_pylist()


def plain(line: int) -> dict[str, Any]:
    row: dict[str, Any] = {"venue": "X", "symbol": "A", "tags": ["t"], "extra": [], "price": None}
    return {**row, "note": "n", "side": "buy", "line": line}


def message(line: int) -> bytes:
    batch = pa.RecordBatch.from_pylist([plain(line)], schema=ARROW)
    value: bytes = RecordEncoder(SCHEMA, SCHEMA_ID).messages(batch)[0].as_py()
    return value


def by_hand(values: Sequence[bytes | None]) -> FetchedBatch:
    """An uncompressed batch with these values, as any producer may send it."""
    section = b""
    for delta, value in enumerate(values):
        body = b"\x00\x00" + write_varint(delta) + write_varint(1) + b"k"
        body += write_varint(-1) if value is None else write_varint(len(value)) + value
        body += b"\x00"
        section += write_varint(len(body)) + body
    head = encoded([plain(0)], partitions=1)[0].payload
    batch = bytearray(head[:61] + section)
    batch[22] = 0
    return FetchedBatch(
        partition=0, base_offset=50, count=len(values), wanted_from=0, payload=memoryview(bytes(batch))
    )


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize(
    "bad",
    [
        None,
        b"",
        b"not avro",
        message(1) + b"\x00",
        message(1)[:-1],
        b"\x01" + message(1)[1:],
        b"\x00\x00\x00\x00\x09" + message(1)[5:],
        message(1).replace(b"\x02n", b"\x02\xff"),
        message(1)[:-2] + b"\x04" + message(1)[-1:],
    ],
    ids=["null", "empty", "garbage", "byte-more", "byte-less", "magic", "unknown-schema", "utf-8", "symbol"],
)
def test_a_message_that_is_no_record_is_named_and_costs_no_other(bad: bytes | None, at: int) -> None:
    values: list[bytes | None] = [message(line) for line in range(5)]
    values[at] = bad
    out = RecordDecoder(ARROW).decode([by_hand(values)], {SCHEMA_ID: SCHEMA, 9: None})
    assert [(p.partition, p.offset, p.key, p.value) for p in out.poison] == [(0, 50 + at, b"k", bad)]
    assert out.rows["line"].to_pylist() == [line for line in range(5) if line != at]
    assert out.rows["kafka_offset"].to_pylist() == [50 + line for line in range(5) if line != at]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message with one byte changed, taken away or added, behind the registry's five."""
    value = bytearray(message(2))
    at = draw(st.integers(5, len(value) - 1))
    value[at : at + draw(st.integers(0, 1))] = draw(st.binary(max_size=1))
    return bytes(value)


@settings(max_examples=3 * settings().max_examples)
@given(value=damaged(), at=st.integers(0, 4))
def test_whatever_byte_of_a_message_is_damaged_it_is_a_row_or_poison_and_costs_no_other(
    value: bytes, at: int
) -> None:
    values = [message(line) for line in range(5)]
    values[at] = value
    out = decoded([by_hand(values)])
    back = {row.pop("kafka_offset"): row for row in out.rows.to_pylist()}
    assert sorted([*back, *(poison.offset for poison in out.poison)]) == [50, 51, 52, 53, 54]
    for line in {0, 1, 2, 3, 4} - {at}:
        assert back[50 + line] == {**plain(line), "kafka_partition": 0}


def test_a_decimal_that_does_not_fit_is_poison() -> None:
    schema = {**SCHEMA, "fields": [SCHEMA["fields"][4]]}
    wide = (10**28).to_bytes(13, "big")
    value = b"\x00" + SCHEMA_ID.to_bytes(4, "big") + b"\x02" + write_varint(len(wide)) + wide
    out = RecordDecoder(arrow_schema(schema)).decode([by_hand([value])], {SCHEMA_ID: schema})
    assert (out.rows.num_rows, len(out.poison)) == (0, 1)


def test_rows_below_the_wanted_offset_are_left_out() -> None:
    batch = by_hand([message(line) for line in range(5)])
    late = FetchedBatch(partition=0, base_offset=50, count=5, wanted_from=53, payload=batch.payload)
    assert decoded([late]).rows["line"].to_pylist() == [3, 4]


def test_an_unknown_schema_is_asked_for() -> None:
    with pytest.raises(SchemasNeeded) as needed:
        RecordDecoder(ARROW).decode([by_hand([message(1)])], {})
    assert needed.value.ids == {SCHEMA_ID}


def test_batches_are_taken_apart_a_few_at_a_time_in_the_order_they_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = {**SCHEMA, "fields": [f for f in SCHEMA["fields"] if f["name"] != "note"]}
    row = pa.RecordBatch.from_pylist([plain(3)], schema=arrow_schema(older))
    values = [message(line) for line in range(6)]
    values[3] = RecordEncoder(older, 8).messages(row)[0].as_py()
    batches = [
        replace(by_hand([value]), base_offset=50 + line, wanted_from=50 + line)
        for line, value in enumerate(values)
    ]
    read: list[int] = []
    whole = RecordDecoder(ARROW).decode(batches, {SCHEMA_ID: SCHEMA, 8: older}).rows
    unpack = decode.read_container
    monkeypatch.setattr(decode, "SLOT_BYTES", 2 * len(records_section(batches[0].payload)))
    monkeypatch.setattr(decode, "read_container", lambda *args: read.append(1) or unpack(*args))
    out = RecordDecoder(ARROW).decode(batches, {SCHEMA_ID: SCHEMA, 8: older}).rows
    assert out["line"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert out["kafka_offset"].to_pylist() == [50, 51, 52, 53, 54, 55]
    assert out.combine_chunks().equals(whole.combine_chunks())
    # Two, one alone before another schema, that one, and two.
    assert len(read) == 4


def test_rows_of_an_older_schema_get_nulls_and_those_without_a_needed_column_are_poison() -> None:
    older = {**SCHEMA, "fields": [f for f in SCHEMA["fields"] if f["name"] != "note"]}
    batch = pa.RecordBatch.from_pylist([plain(1)], schema=arrow_schema(older))
    value = RecordEncoder(older, 8).messages(batch)[0].as_py()
    out = RecordDecoder(ARROW).decode([by_hand([value])], {8: older})
    assert out.rows["note"].to_pylist() == [None]
    wanted = arrow_schema(avro_schema("instruments"))
    out = RecordDecoder(wanted).decode([by_hand([value])], {8: older})
    assert (out.rows.num_rows, len(out.poison)) == (0, 1)


def test_a_fetch_answer_is_split_into_whole_batches_and_its_checksums_are_verified() -> None:
    whole = [bytes(batch.payload) for batch in fetched(encoded([plain(n) for n in range(9)], max_bytes=60))]
    assert len(whole) > 1
    data = b"".join(whole)
    assert [bytes(batch) for _, batch in split(memoryview(data))] == whole
    assert [bytes(batch) for _, batch in split(memoryview(data[:-1]))] == whole[:-1]
    broken = bytearray(data)
    broken[70] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        list(split(memoryview(bytes(broken))))


@given(value=st.integers(-(2**63), 2**63 - 1))
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    written = write_varint(value)
    assert read_varint(memoryview(written), 0) == (value, len(written))


@pytest.mark.parametrize("length", [1, 255, 300, 70_000])
@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_tells_how_large_it_is_unpacked(length: int, packed: bool) -> None:
    section = bytes(length)
    whole = bytearray(by_hand([message(1)]).payload[:61])
    whole[22] = 4 if packed else 0
    body = pa.Codec("zstd").compress(section, asbytes=True) if packed else section
    assert unpacked_bytes(memoryview(bytes(whole) + body)) == length
    other = memoryview(bytes(whole[:22] + b"\x01" + whole[23:]) + b"gzip")
    assert unpacked_bytes(other) > len(b"gzip")


def test_a_message_that_was_put_back_is_known_by_its_header() -> None:
    section = b"".join(_record(delta, message(delta), redriven=delta == 1) for delta in range(3))
    plain_batch = by_hand([message(0)])
    header = bytearray(plain_batch.payload[:61])
    header[22] = 0
    batch = FetchedBatch(
        partition=3, base_offset=50, count=3, wanted_from=50, payload=memoryview(bytes(header) + section)
    )
    out = RecordDecoder(ARROW).decode([batch], {SCHEMA_ID: SCHEMA})
    assert out.rows["kafka_offset"].to_pylist() == [50, 51, 52]
    assert out.redriven == [(3, 51)]


def _record(delta: int, value: bytes, *, redriven: bool) -> bytes:
    name, text = b"k2-redriven", b"t/0/0/1"
    headers = write_varint(len(name)) + name + write_varint(len(text)) + text if redriven else b""
    body = b"\x00\x00" + write_varint(delta) + write_varint(1) + b"k" + write_varint(len(value)) + value
    body += write_varint(int(redriven)) + headers
    return write_varint(len(body)) + body


@pytest.mark.parametrize(("number", "codec"), [(1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")])
@pytest.mark.parametrize("framed", [True, False])
def test_every_codec_of_kafka_is_read(number: int, codec: str, framed: bool) -> None:
    plain_batch = by_hand([message(line) for line in range(300)])
    section = bytes(records_section(plain_batch.payload))
    packed: bytes = pa.compress(section, codec=codec, asbytes=True)
    if framed and codec == "snappy":
        halves = [pa.compress(part, codec=codec, asbytes=True) for part in (section[:99], section[99:])]
        packed = b"\x82SNAPPY\x00" + bytes(8) + b"".join(len(h).to_bytes(4, "big") + h for h in halves)
    header = bytearray(plain_batch.payload[:61])
    header[22] = number
    assert bytes(records_section(memoryview(bytes(header) + packed))) == section


def test_a_codec_that_kafka_does_not_have_is_named() -> None:
    header = bytearray(by_hand([message(1)]).payload[:61])
    header[22] = 6
    with pytest.raises(ValueError, match="compression 6"):
        records_section(memoryview(bytes(header) + b"x"))
