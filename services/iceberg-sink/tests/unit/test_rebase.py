"""A new epoch keeps what is visible, and never shows what the lost log would have completed."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from iceberg_sink.commits.rebase import rebase, rebased
from iceberg_sink.commits.topic_identity import origin, recorded_topics, recreated_topics
from iceberg_sink.uploads.visibility import Commanded, TopicProgress, hidden_after, is_settled
from k2common.domain.progress import Progress
from k2common.errors import Fenced, SetupError
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import commit
from k2common.iceberg.versions.documents import head_version
from k2common.kafka.identity import Identity
from k2common.schemas.datasets import DATASETS, DEAD_LETTERS, STATUS, TRADES, Dataset, dead_letter_topic
from k2common.testing.iceberg import first_version, folder_catalog, trade_rows, trades_proposal
from k2common.versions.hidden import HiddenUpload, OffsetRange, Reason
from k2common.versions.version import Version

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = TRADES.topic.name
HELD = HiddenUpload(reason=Reason.LOADING, ranges=(OffsetRange(epoch=0, partition=0, first=3, end=5),))


def head(**hidden: HiddenUpload) -> Version:
    version = first_version(TRADES.table).successor(now=NOW, offsets={0: 10, 1: 20}, hidden=hidden)
    return Version(
        **{
            **{name: getattr(version, name) for name in Version.__slots__},
            "resume": {STATUS.name: {0: 5}, "other": {0: 6}},
            "dead_letters": 4,
        }
    )


def begun(
    known: Version | None, *recreated: str, epoch: int = 1, fail: bool = False, dataset: Dataset = TRADES
) -> Version:
    return rebased(known, dataset, epoch=epoch, recreated=set(recreated), fail_loading=fail, now=NOW)


def test_the_same_topic_goes_on_at_its_offsets() -> None:
    after = begun(head(U1=HELD))
    assert (after.number, after.epoch, after.offsets, after.ended) == (2, 1, {0: 10, 1: 20}, {})
    assert (after.hidden, after.dead_letters, after.resume) == ({"U1": HELD}, 4, head().resume)


def test_a_topic_made_anew_begins_at_its_beginning_and_the_rows_of_before_are_shown() -> None:
    after = begun(head(), TOPIC, STATUS.name, dead_letter_topic(TRADES.topic).name)
    assert (after.epoch, after.offsets, after.ended) == (1, {}, {0: {0: 10, 1: 20}})
    assert (after.dead_letters, after.resume) == (0, {"other": {0: 6}})
    assert after.shows("U9", epoch=0, partition=0, offset=9)
    assert not after.shows("U9", epoch=1, partition=0, offset=0)
    assert Version.from_json(after.to_json()) == after


@pytest.mark.parametrize("recreated", [TOPIC, STATUS.name])
def test_what_can_never_be_whole_is_refused_or_failed(recreated: str) -> None:
    with pytest.raises(SetupError, match="1 uploads are loading, such as U1"):
        begun(head(U1=HELD), recreated)
    after = begun(head(U1=HELD), recreated, fail=True)
    assert after.hidden == {"U1": HiddenUpload(reason=Reason.FAILED, ranges=HELD.ranges)}


def test_epochs_only_grow_and_a_log_that_went_on_ends_for_all_of_its_epochs() -> None:
    with pytest.raises(SetupError, match="is in epoch 0"):
        begun(head(), epoch=0)
    after = begun(begun(head(), epoch=2), TOPIC, epoch=3)
    assert after.ended == {key: {0: 10, 1: 20} for key in range(3)}
    again = begun(after.successor(now=NOW, offsets={0: 7}, hidden={}), TOPIC, epoch=4)
    assert again.ended == {**after.ended, 3: {0: 7}}


def test_a_table_without_a_version_begins_the_epoch_too() -> None:
    after = begun(None, TOPIC)
    assert (after.number, after.epoch, after.offsets, after.ended) == (1, 1, {}, {0: {}})


def test_only_the_lost_topics_of_a_table_with_several_begin_anew() -> None:
    known = first_version(DEAD_LETTERS.table).successor(now=NOW, offsets={0: 10, 1: 20}, hidden={})
    after = begun(known, DEAD_LETTERS.topics[1].name, dataset=DEAD_LETTERS)
    assert (after.offsets, after.ended) == ({0: 10}, {0: {1: 20}})


def test_an_upload_whose_rows_the_lost_log_had_is_never_shown() -> None:
    after = begun(head(), TOPIC)
    lost = Progress(upload_id="U1", dataset="trades", chunks=0, ends={(TOPIC, 0): (0, 11)})
    whole = Progress(upload_id="U2", dataset="trades", chunks=0, ends={(TOPIC, 0): (0, 10)})
    place = TopicProgress(topic=TOPIC, epoch=1, offsets={0: 99}, ended=after.ended)
    hidden = hidden_after({"U1": HELD, "U2": HELD}, {}, {"U1": lost, "U2": whole}, Commanded(), place=place)
    assert {upload: entry.reason for upload, entry in hidden.items()} == {"U1": Reason.FAILED}
    assert is_settled(lost, after, topic=TOPIC)
    assert is_settled(whole, after, topic=TOPIC)


def test_every_table_begins_the_epoch_and_a_second_command_changes_nothing(tmp_path: Path) -> None:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog)
    old = Identity(cluster="c", topics={TOPIC: "old"})
    rows = trade_rows(0, 5)
    proposal = replace(trades_proposal(catalog, rows, expected=None), origin=origin(old))
    commit(catalog, proposal)
    table = load_table(catalog, TRADES.table)
    assert recorded_topics(table) == {TOPIC: "old"}

    new = Identity(cluster="d", topics={TOPIC: "new", STATUS.name: "s"})
    assert recreated_topics(recorded_topics(table), new) == {TOPIC}
    done = rebase(catalog, new, epoch=1, recreated=set(), fail_loading=False, now=NOW)
    assert done.keys() == {dataset.table for dataset in DATASETS.values()}
    assert done[TRADES.table] == "restarts"
    head = head_version(load_table(catalog, TRADES.table))
    assert head is not None
    assert (head.epoch, head.offsets, head.ended) == (1, {}, {0: {0: 5}})
    assert recorded_topics(load_table(catalog, TRADES.table)) == new.topics
    assert rebase(catalog, new, epoch=1, recreated=set(), fail_loading=False, now=NOW) == {}
    # Who still works in the old epoch is fenced.
    with pytest.raises(Fenced, match="is in epoch 1"):
        commit(catalog, trades_proposal(catalog, trade_rows(5, 1), expected=5))


def test_a_table_that_does_not_say_where_it_came_from_has_to_be_named(tmp_path: Path) -> None:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog)
    commit(catalog, trades_proposal(catalog, trade_rows(0, 5), expected=None))
    present = Identity(cluster="c", topics={TOPIC: "t"})
    with pytest.raises(SetupError, match="--recreated"):
        rebase(catalog, present, epoch=1, recreated=set(), fail_loading=False, now=NOW)
    assert rebase(catalog, present, epoch=1, recreated={TOPIC}, fail_loading=False, now=NOW)
