"""A refused write changes nothing: every fault of a request is found before anything is done.

The writes are enumerated from the services' applications, so a new one needs an entry here.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from k2common.kafka.consumer import MessageReader
from k2common.schemas.datasets import CHUNKS, COMMANDS, MARKET_DATASETS, REDRIVES, SESSIONS
from k2common.settings.kafka import KafkaSettings
from k2local.testing import Fleet, GivenFleet

from tests.e2e.files import file_of, trades, unique_symbol
from tests.structure.apps import WRITES, open_apps, operations

WRONG = "\x7f"
IDLE_SECONDS = 60
UNFINISHED = {"receiving", "queued", "loading", "committing"}
"""A value that no parameter takes."""
TOPICS = (CHUNKS, COMMANDS, SESSIONS, REDRIVES, *(d.topic for d in MARKET_DATASETS.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A request that is right; `changes` says whether it shows in `state_of`."""

    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    json: Mapping[str, Any] | None = None
    changes: bool = True

    def options(self, **more: Any) -> dict[str, Any]:
        given = {"params": self.parameters, "content": self.content, "json": self.json, **more}
        return {name: value for name, value in given.items() if value is not None}


def committed(fleet: Fleet) -> str:
    receipt = fleet.upload(file_of(trades(unique_symbol(), 3)), dataset="trades")
    assert receipt["state"] == "committed"
    return str(receipt["upload_id"])


def new_upload(fleet: Fleet) -> Write:
    content = file_of(trades(unique_symbol(), 3))
    return Write(path="/v1/uploads", parameters={"dataset": "trades"}, content=content)


def loading(fleet: Fleet) -> Write:
    answer = fleet.post(file_of(trades(unique_symbol(), 3)), dataset="trades")
    path = f"/v1/uploads/{answer.json()['data']['upload_id']}"
    deadline = time.monotonic() + IDLE_SECONDS
    while (state := fleet.data("ingest-gateway", path)["state"]) != "loading":
        assert time.monotonic() < deadline, state
        time.sleep(0.1)
    return Write(path=path, parameters={"timeout": "1"})


def retraction(fleet: Fleet) -> Write:
    return Write(path=f"/v1/uploads/{committed(fleet)}/retract", parameters={"timeout": "60"})


def reload(fleet: Fleet) -> Write:
    return Write(path=f"/v1/uploads/{committed(fleet)}/reload", parameters={"batch": "again"})


def sample(fleet: Fleet) -> Write:
    content = file_of(trades("A", 3))
    return Write(path="/v1/layouts/detect", parameters={"filename": "a.csv"}, content=content, changes=False)


def tag(fleet: Fleet) -> Write:
    committed(fleet)
    return Write(path="/v1/tags", parameters={"name": unique_symbol()})


def tag_to_delete(fleet: Fleet) -> Write:
    made = tag(fleet)
    fleet.call("POST", "iceberg-sink", made.path, params=made.parameters)
    return Write(path=f"/v1/tags/{made.parameters['name']}")


def maintenance(task: str) -> Callable[[Fleet], Write]:
    given = {"table": "market.trades", "dry_run": "true"}
    return lambda _: Write(path=f"/v1/maintenance/{task}", parameters=given, changes=False)


def redrive(fleet: Fleet) -> Write:
    return Write(path="/v1/dead-letters/redrive", json={"reason": "none of these"}, changes=False)


def replay(fleet: Fleet) -> Write:
    committed(fleet)
    return Write(path="/v1/replays", json={"datasets": ["trades"]})


def replay_to_delete(fleet: Fleet) -> Write:
    made = replay(fleet)
    answer = fleet.call("POST", "replay-service", made.path, json=made.json)
    return Write(path=f"/v1/replays/{answer.json()['data']['session_id']}")


def question(path: str, **body: Any) -> Callable[[Fleet], Write]:
    return lambda _: Write(path=path, json=body, changes=False)


def genuine_citation(fleet: Fleet) -> Write:
    cited = fleet.call(
        "POST", "query-service", "/v1/citations", json={"endpoint": "trades", "parameters": {}}
    )
    return Write(path="/v1/citations/verify", json=cited.json()["data"], changes=False)


Key = tuple[str, str, str]
REQUESTS: Mapping[Key, Callable[[Fleet], Write]] = {
    ("ingest-gateway", "POST", "/v1/uploads"): new_upload,
    ("ingest-gateway", "DELETE", "/v1/uploads/{upload_id}"): loading,
    ("ingest-gateway", "POST", "/v1/uploads/{upload_id}/retract"): retraction,
    ("ingest-gateway", "POST", "/v1/uploads/{upload_id}/reload"): reload,
    ("ingest-gateway", "POST", "/v1/layouts/detect"): sample,
    ("iceberg-sink", "POST", "/v1/tags"): tag,
    ("iceberg-sink", "DELETE", "/v1/tags/{name}"): tag_to_delete,
    ("iceberg-sink", "POST", "/v1/maintenance/compact"): maintenance("compact"),
    ("iceberg-sink", "POST", "/v1/maintenance/expire"): maintenance("expire"),
    ("iceberg-sink", "POST", "/v1/maintenance/purge"): maintenance("purge"),
    ("iceberg-sink", "POST", "/v1/maintenance/collect"): maintenance("collect"),
    ("iceberg-sink", "POST", "/v1/maintenance/scrub"): maintenance("scrub"),
    ("iceberg-sink", "POST", "/v1/maintenance/repair"): maintenance("repair"),
    ("iceberg-sink", "POST", "/v1/dead-letters/redrive"): redrive,
    ("query-service", "POST", "/v1/trades/query"): question("/v1/trades/query", limit=1),
    ("query-service", "POST", "/v1/quotes/query"): question("/v1/quotes/query", limit=1),
    ("query-service", "POST", "/v1/bars/query"): question("/v1/bars/query", timeframe="1Day"),
    ("query-service", "POST", "/v1/sql"): question("/v1/sql", sql="SELECT 1"),
    ("query-service", "POST", "/v1/citations"): question("/v1/citations", endpoint="trades"),
    ("query-service", "POST", "/v1/citations/verify"): genuine_citation,
    ("replay-service", "POST", "/v1/replays"): replay,
    ("replay-service", "DELETE", "/v1/replays/{session_id}"): replay_to_delete,
}


async def test_every_write_of_every_service_is_tried(tmp_path: Path) -> None:
    async with open_apps(tmp_path) as apps:
        found = {
            (service, method, path)
            for service, app in apps.items()
            for method, path in operations(app)
            if method in WRITES
        }
    assert found == REQUESTS.keys()


@pytest.mark.parametrize("key", REQUESTS, ids=" ".join)
def test_a_refused_write_leaves_the_state_as_it_was(fleet: Fleet, key: Key) -> None:
    service, method, template = key
    wait_until_idle(fleet)
    with paused(fleet, key):
        write = REQUESTS[key](fleet)
        before = state_of(fleet)
        for fault in faults(write, documented(fleet, service, method, template)):
            answer = fleet.call(method, service, write.path, **fault)
            assert 400 <= answer.status_code < 500, (fault, answer.status_code, answer.text)
        assert state_of(fleet) == before
        answer = fleet.call(method, service, write.path, **write.options())
        assert answer.status_code < 300, answer.text
    assert not write.changes or state_of(fleet) != before


def paused(fleet: Fleet, key: Key) -> AbstractContextManager[None]:
    """Only an upload that is still loading can be cancelled."""
    if key[1:] != ("DELETE", "/v1/uploads/{upload_id}"):
        return nullcontext()
    if isinstance(fleet, GivenFleet):
        pytest.skip("the loader of a given fleet cannot be paused")
    return hanging_loader(fleet)


@contextmanager
def hanging_loader(fleet: Fleet) -> Iterator[None]:
    with fleet.hanging("csv-loader"):
        yield
    fleet.wait_ready("csv-loader")


def documented(fleet: Fleet, service: str, method: str, template: str) -> Mapping[str, Mapping[str, Any]]:
    """The query parameters of a route with their schemas, as far as a document says them."""
    answer = fleet.get(service, "/openapi.json")
    paths = answer.json()["paths"] if answer.status_code == 200 else {}
    known = paths.get(template, {}).get(method.lower(), {}).get("parameters", ())
    return {one["name"]: one["schema"] for one in known if one["in"] == "query"}


def faults(write: Write, known: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The request with one fault each."""
    given = list(write.parameters.items())
    yield write.options(params=[*given, ("nonsense", "1")])
    for name in {**known, **write.parameters}:
        others = [(other, value) for other, value in given if other != name]
        value = write.parameters.get(name, WRONG)
        yield write.options(params=[*others, (name, value), (name, value)])
        yield write.options(params=[*others, (name, WRONG)])
        if "maximum" in known.get(name, {}):
            yield write.options(params=[*others, (name, str(known[name]["maximum"] + 1))])
    if write.json is not None:
        yield write.options(json={**write.json, "nonsense": 1})
        yield write.options(json=None, content=b"[")
        yield write.options(json=None, content=b"")


def wait_until_idle(fleet: Fleet) -> None:
    """Return once every upload is final and what that writes is written."""
    deadline = time.monotonic() + IDLE_SECONDS
    known: Mapping[str, Any] = {}
    while True:
        state = state_of(fleet)
        if state == known and not UNFINISHED & {upload for upload, _ in state["uploads"].values()}:
            return
        assert time.monotonic() < deadline, state["uploads"]
        known = state
        time.sleep(0.3)


def state_of(fleet: Fleet) -> Mapping[str, Any]:
    """What writes change: uploads, tags, replays, rows, and what lies in the topics that they write to."""
    uploads = fleet.data("ingest-gateway", "/v1/uploads", limit=1000)
    tables = fleet.data("iceberg-sink", "/v1/tables")
    return {
        "uploads": {one["upload_id"]: (one["state"], one["replaced_by"]) for one in uploads},
        "tags": fleet.data("iceberg-sink", "/v1/tags"),
        "replays": fleet.data("replay-service", "/v1/replays"),
        "rows": {one["table"]: (one["rows"], one["hidden_uploads"]) for one in tables if is_market(one)},
        "topics": asyncio.run(ends_of(fleet.settings.bootstrap_servers)),
    }


def is_market(table: Mapping[str, Any]) -> bool:
    return str(table["table"]) in {dataset.table for dataset in MARKET_DATASETS.values()}


async def ends_of(servers: str) -> Mapping[tuple[str, int], int]:
    places = [(topic.name, number) for topic in TOPICS for number in range(topic.partitions)]
    async with MessageReader(KafkaSettings(bootstrap_servers=servers), dict.fromkeys(places)) as reader:
        return await reader.ends()
