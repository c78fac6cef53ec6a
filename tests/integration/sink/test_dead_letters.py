"""A message that is no record is kept with its bytes and counted, and comes in once when it is put back."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import iceberg_sink.commits.writer
import ingest_gateway.app
import pytest
from iceberg_sink import app as sink
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.errors import SetupError, TransientError
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.commits.commit import commit
from k2common.kafka.producer import TransactionalProducer
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import DEAD_LETTERS, REJECTS, TRADES, UPLOADS, VERSIONS
from k2common.settings.load import load

from tests.integration.sink.conftest import running
from tests.integration.sink.messages import TOPIC, WIDER, message, next_schema_id, write

LIMIT_SECONDS = 90
ROWS = b"ts_event_ns,symbol,venue,price,size\n" + b"1700000000000000000,A,X,1,1\n" * 3


def rows(settings: Any, table: str, **wanted: Any) -> list[dict[str, Any]]:
    found = load_table(open_catalog(settings.iceberg), table).scan().to_arrow().to_pylist()
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


async def posted(gateway: httpx.AsyncClient, content: bytes, **parameters: str) -> str:
    headers = {"Content-Type": "text/csv"}
    answer = await gateway.post(
        "/v1/uploads", params={"dataset": "trades", **parameters}, content=content, headers=headers
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["data"]["upload_id"])


async def counted(gateway: httpx.AsyncClient, upload_id: str, **wanted: int) -> dict[str, Any]:
    """The receipt once its rows are those that are wanted; it balances all along."""
    while True:
        answer = await gateway.get(f"/v1/uploads/{upload_id}", params={"wait": "committed", "timeout": "30"})
        receipt: dict[str, Any] = answer.json()["data"]
        found = receipt["rows"]
        if receipt["state"] == "committed":
            parts = ("committed", "rejected", "filtered", "dead_lettered")
            assert found["read"] == sum(found[name] for name in parts), receipt
        if wanted.items() <= found.items():
            return receipt
        await asyncio.sleep(0.1)


async def redriven(client: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    answer = await client.post("/v1/dead-letters/redrive", json=wanted)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def listed(client: httpx.AsyncClient, least: int = 1, **wanted: str) -> list[dict[str, Any]]:
    """The dead letters, as soon as there are so many."""
    while True:
        answer = await client.get("/v1/dead-letters", params=wanted)
        if len(found := answer.json()["data"]) >= least:
            return list(found)
        await asyncio.sleep(0.1)


@pytest.fixture
def failing_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first commit of trades fails after its dead letters were written."""
    failed: list[str] = []

    def fail(catalog: Any, proposal: Any, **options: Any) -> Any:
        if not failed and proposal.table == TRADES.table:
            failed.append(proposal.table)
            raise TransientError("the test takes the catalogue unavailable")
        return commit(catalog, proposal, **options)

    monkeypatch.setattr(iceberg_sink.commits.writer, "commit", fail)
    return failed


async def test_a_poison_message_is_kept_counted_and_put_back_once(
    environ: Mapping[str, str], failing_once: list[str]
) -> None:
    settings = load(IcebergSinkSettings, environ)
    gateway_settings = load(IngestGatewaySettings, environ)
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        running(ingest_gateway.app.build, gateway_settings) as gateway,
    ):
        upload_id = await posted(gateway, ROWS)
        known = await SchemaRegistry(settings.registry).ensure(TRADES.topic.subject, TRADES_SCHEMA)
        unknown = await next_schema_id(settings.registry, upload_id)
        bad = message(upload_id, 3, schema_id=unknown, schema=WIDER, note="hello")
        values = [message(upload_id, 2, schema_id=known), bad, message(upload_id, 4, schema_id=known)]
        first = await write(settings.kafka, settings.registry, upload_id, values)
        async with running(sink.build, settings) as client:
            receipt = await counted(gateway, upload_id, committed=2, dead_lettered=1)
            assert (receipt["state"], receipt["rows"]["read"]) == ("committed", 3)
            assert failing_once == [TRADES.table]
            (letter,) = await listed(client, upload_id=upload_id)
            assert (letter["topic"], letter["partition"], letter["offset"]) == (TOPIC, 0, first + 1)
            (kept,) = rows(settings, DEAD_LETTERS.table, upload_id=upload_id)
            assert (kept["message_value"], kept["message_key"], kept["schema_id"]) == (bad, b"k", unknown)
            assert [row["line"] for row in rows(settings, TRADES.table, upload_id=upload_id)] == [2, 4]

            # The fix: the schema is registered. A redrive that is asked for twice brings the row in once.
            assert await SchemaRegistry(settings.registry).ensure(TRADES.topic.subject, WIDER) == unknown
            tried = await redriven(client, upload_id=upload_id, dry_run=True)
            assert tried["counts"]["redriven"] == 1
            assert (await redriven(client, upload_id=upload_id))["counts"]["redriven"] == 1
            assert (await redriven(client, upload_id=upload_id))["counts"]["redriven"] == 0
            await counted(gateway, upload_id, committed=3, dead_lettered=0)
            found = rows(settings, TRADES.table, upload_id=upload_id)
            assert sorted(row["line"] for row in found) == [2, 3, 4]
            assert (await listed(client, upload_id=upload_id))[0]["redriven"]

            # Put back or not, a retracted upload hides all of its rows.
            assert (await gateway.post(f"/v1/uploads/{upload_id}/retract")).status_code == 200


TRADES_SCHEMA = {key: value for key, value in WIDER.items() if key != "fields"} | {
    "fields": WIDER["fields"][:-1]
}


async def test_letters_of_a_retracted_or_a_loading_upload_stay_where_they_are(
    environ: Mapping[str, str],
) -> None:
    settings = load(IcebergSinkSettings, environ)
    gateway_settings = load(IngestGatewaySettings, environ)
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        running(ingest_gateway.app.build, gateway_settings) as gateway,
        running(sink.build, settings) as client,
    ):
        taken_back = await posted(gateway, ROWS, filename="again.csv")
        await write(settings.kafka, settings.registry, taken_back, [b"no record"] * 3)
        await counted(gateway, taken_back, committed=0, dead_lettered=3)
        assert (await gateway.post(f"/v1/uploads/{taken_back}/retract")).status_code == 200
        loading = await posted(gateway, ROWS + b"1700000000000000000,A,X,1,1\n")
        await write(settings.kafka, settings.registry, loading, [b"no record"], ended=False)
        await listed(client, upload_id=loading)
        for upload_id, because, letters in (
            (taken_back, "upload_is_taken_back", 3),
            (loading, "upload_is_loading", 1),
        ):
            found = await redriven(client, upload_id=upload_id)
            assert (found["counts"]["redriven"], found["counts"][because]) == (0, letters)
            assert {letter["because"] for letter in found["refused"]} == {because}


async def test_a_stranger_in_topics_that_no_status_names_stops_nothing(environ: Mapping[str, str]) -> None:
    few = {"K2_SINK__DEAD_LETTERS_ALLOWED": "5", "K2_SINK__DEAD_LETTER_SHARE": "0"}
    settings = load(IcebergSinkSettings, {**environ, **few})
    topics = [dataset.topic.name for dataset in (REJECTS, UPLOADS, VERSIONS)]
    async with (
        TransactionalProducer(settings.kafka, "a-stranger") as producer,
        producer.transaction() as work,
    ):
        for topic in topics * 9:
            await work.send(topic, value=b"garbage", key=b"k", partition=0)
    async with asyncio.timeout(LIMIT_SECONDS), running(sink.build, settings) as client:
        for topic in topics:
            await listed(client, 9, topic=topic)


async def test_a_topic_of_poison_stops_the_sink_before_it(environ: Mapping[str, str]) -> None:
    settings = load(IcebergSinkSettings, {**environ, "K2_SINK__DEAD_LETTERS_ALLOWED": "5"})
    await write(settings.kafka, settings.registry, "U9", [b"no record"] * 9, partition=1)
    with pytest.RaisesGroup(pytest.RaisesExc(SetupError, match="too many messages"), flatten_subgroups=True):
        async with asyncio.timeout(LIMIT_SECONDS), running(sink.build, settings):
            await asyncio.Event().wait()
    assert rows(settings, TRADES.table, upload_id="U9") == []
