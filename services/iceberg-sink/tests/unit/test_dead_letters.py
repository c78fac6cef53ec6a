"""Poison becomes letters with the upload that the statuses name, until it is too much of a topic."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from iceberg_sink.dead_letters.dead_letters import STATUS_SECONDS, WINDOW_MESSAGES, DeadLetters, Limit
from iceberg_sink.dead_letters.redrive import Fate, Selection, UploadStates, fate
from iceberg_sink.dead_letters.routes import RedriveRequest
from iceberg_sink.settings import SinkSettings
from iceberg_sink.uploads.statuses import Statuses
from iceberg_sink.uploads.visibility import Commanded, TopicProgress, hidden_after
from k2common.columnar.decode import Poison
from k2common.domain.dead_letters import DeadLetter
from k2common.domain.progress import Progress
from k2common.errors import SetupError
from k2common.schemas.datasets import TRADES
from k2common.settings.kafka import KafkaSettings
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import HiddenUpload, OffsetRange, Reason
from pydantic import SecretStr, ValidationError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = TRADES.topic.name
POISON = Poison(partition=1, offset=12, key=b"k", value=b"v", schema_id=7, reason="no record")
LETTER = DeadLetter(
    topic=TOPIC, epoch=0, partition=1, offset=12, reason="no record", lettered_at=NOW, upload_id="U1"
)

KEY = SecretStr("a-secret-of-the-tests")


class Statused(Statuses):
    """Knows one upload."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(bootstrap_servers="x:1"), codec=None, starts=None)  # type: ignore[arg-type]
        batches = {(TOPIC, 1): [(0, 10, 5)]}
        ends = {(TOPIC, 1): (0, 15)}
        self._open["trades"]["U1"] = Progress(
            upload_id="U1", dataset="trades", chunks=0, batches=batches, ends=ends
        )
        self._firsts["U1"] = (0, 0)


class Ticking:
    """Each look at it takes a second."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds

    def now(self) -> datetime:
        return NOW

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def letters(**fields: Any) -> DeadLetters:
    settings = SinkSettings(page_key=KEY, **fields)
    return DeadLetters(TRADES, statuses=Statused(), settings=settings, epoch=0, clock=Ticking())


async def test_a_letter_names_the_upload_whose_record_batch_holds_it() -> None:
    outside = Poison(partition=1, offset=15, key=None, value=None, schema_id=None, reason="no record")
    found = await letters().of([POISON, outside], rows=1)
    assert [(letter.upload_id, letter.position) for letter in found] == [
        ("U1", (TOPIC, 0, 1, 12)),
        (None, (TOPIC, 0, 1, 15)),
    ]
    assert found[0] == DeadLetter(**{**_fields(LETTER), "key": b"k", "value": b"v", "schema_id": 7})


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in DeadLetter.__slots__}


async def test_an_upload_that_its_table_has_settled_is_still_known_by_its_batches() -> None:
    statuses = Statused()
    version = first_version(TRADES.table).successor(now=NOW, offsets={1: 15}, hidden={})
    assert statuses.settle("trades", version, topic=TOPIC) == {"U1"}
    assert statuses.upload_at(TOPIC, epoch=0, partition=1, offset=14) == "U1"
    assert statuses.upload_at(TOPIC, epoch=1, partition=1, offset=14) is None


async def test_too_much_poison_stops_the_sink_with_the_place_and_the_reason() -> None:
    limited = letters(dead_letters_allowed=1, dead_letter_share=0.5)
    assert len(await limited.of([POISON], rows=0)) == 1
    with pytest.raises(SetupError, match=r"market\.trades\.v1: .*partition 1 offset 12: no record.*SHARE"):
        await limited.of([POISON], rows=0)


async def test_a_flood_that_no_status_names_becomes_letters_and_stops_nothing() -> None:
    limited = letters(dead_letters_allowed=1, dead_letter_share=0)
    strange = [
        Poison(partition=1, offset=offset, key=None, value=b"v", schema_id=None, reason="no record")
        for offset in range(100, 600)
    ]
    found = await limited.of(strange, rows=0)
    assert [letter.offset for letter in found] == list(range(100, 600))
    assert {letter.upload_id for letter in found} == {None}
    # They leave the limit of the fleet's own messages as it is.
    assert len(await limited.of([POISON, *strange], rows=0)) == 501
    with pytest.raises(SetupError, match="offset 12"):
        await limited.of([POISON, *strange], rows=0)


def test_a_share_that_is_allowed_goes_on_for_ever_and_old_messages_count_less() -> None:
    limit = Limit(SinkSettings(page_key=KEY, dead_letter_share=0.1, dead_letters_allowed=100))
    assert not any(limit.passed(messages=1_000, poison=99) for _ in range(500))
    assert any(limit.passed(messages=1_000, poison=1_000) for _ in range(3 * WINDOW_MESSAGES // 1_000))
    assert STATUS_SECONDS > 0


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (UploadStates(epoch=0, open=frozenset(), taken_back=frozenset()), Fate.REDRIVEN),
        (UploadStates(epoch=0, open=frozenset({"U1"}), taken_back=frozenset()), Fate.LOADING),
        (UploadStates(epoch=0, open=frozenset({"U1"}), taken_back=frozenset({"U1"})), Fate.TAKEN_BACK),
        (UploadStates(epoch=1, open=frozenset(), taken_back=frozenset()), Fate.EARLIER_EPOCH),
    ],
)
def test_what_becomes_of_a_letter_is_its_uploads_fate(known: UploadStates, found: Fate) -> None:
    assert fate(LETTER, known) is found


def test_a_selection_by_offsets_takes_those_partitions_alone() -> None:
    chosen = Selection(topic=TOPIC, offsets=[(1, 12)])
    assert chosen.has(LETTER.position)
    assert not chosen.has((TOPIC, 0, 0, 12))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"topic": TOPIC},
        {"offsets": [{"partition": 0, "offset": 1}]},
        {"topic": "x", "reason": "r"},
        {"a": 1},
    ],
)
def test_a_redrive_has_to_say_which(body: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RedriveRequest.model_validate(body)


OLD = (OffsetRange(epoch=0, partition=0, first=3, end=5),)
BACK = (OffsetRange(epoch=0, partition=0, first=9, end=10),)
BOTH = (OffsetRange(epoch=0, partition=0, first=3, end=10),)


@pytest.mark.parametrize(
    ("hidden", "commanded", "found"),
    [
        ({}, Commanded(), {}),
        ({"U1": HiddenUpload(reason=Reason.FAILED, ranges=OLD)}, Commanded(), {"U1": (Reason.FAILED, BOTH)}),
        ({"U1": HiddenUpload(reason=Reason.REPLACED, by="U2")}, Commanded(), {"U1": (Reason.REPLACED, ())}),
        (
            {"U1": HiddenUpload(reason=Reason.LOADING, ranges=OLD)},
            Commanded(),
            {"U1": (Reason.LOADING, BOTH)},
        ),
        ({}, Commanded(retracted={"U1": OLD}), {"U1": (Reason.RETRACTED, BOTH)}),
        ({}, Commanded(retracted={"U1": ()}), {"U1": (Reason.RETRACTED, ())}),
    ],
)
def test_redriven_rows_hide_nothing_and_are_hidden_with_their_upload(
    hidden: dict[str, HiddenUpload], commanded: Commanded, found: dict[str, Any]
) -> None:
    place = TopicProgress(topic=TOPIC, epoch=0, offsets={0: 10})
    after = hidden_after(hidden, {}, {}, commanded, place=place, redriven={"U1": BACK})
    assert {u: (entry.reason, entry.ranges) for u, entry in after.items()} == found
