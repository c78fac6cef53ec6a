"""Retracted, cancelled and replaced uploads: never both, never neither, whatever comes in whatever order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iceberg_sink.uploads.commands import CANCEL_LASTS, Commands
from iceberg_sink.uploads.visibility import Commanded, TopicProgress, hidden_after, is_due, is_settled
from k2common.domain.progress import Progress
from k2common.errors import RecordError
from k2common.schemas.datasets import TRADES
from k2common.settings.kafka import KafkaSettings
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import HiddenUpload, OffsetRange, Reason
from k2common.versions.version import Version

TOPIC = TRADES.topic.name
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = (OffsetRange(epoch=0, partition=0, first=3, end=5),)
NONE = Commanded()


def done(upload: str, *, rows: int = 1, replaces: str | None = None, **fields: Any) -> Progress:
    ends = {(TOPIC, 0): (0, 5)} if rows else {}
    return Progress(upload_id=upload, dataset="trades", chunks=0, ends=ends, replaces=replaces, **fields)


def after(
    hidden: dict[str, HiddenUpload],
    *progress: Progress,
    arrived: tuple[str, ...] = (),
    commanded: Commanded = NONE,
) -> dict[str, HiddenUpload]:
    place = TopicProgress(topic=TOPIC, epoch=0, offsets={0: 9})
    known = {entry.upload_id: entry for entry in progress}
    return dict(hidden_after(hidden, dict.fromkeys(arrived, SPAN), known, commanded, place=place))


def version(hidden: dict[str, HiddenUpload]) -> Version:
    return replace(first_version(TRADES.table), hidden=hidden, offsets={0: 9})


def test_the_new_one_is_shown_in_the_commit_that_hides_the_old_one() -> None:
    found = after({}, done("NEW", replaces="OLD"), arrived=("NEW",))
    assert found == {"OLD": HiddenUpload(reason=Reason.REPLACED, by="NEW")}
    assert is_settled(done("NEW", replaces="OLD"), version(found), topic=TOPIC)


@pytest.mark.parametrize("reason", list(Reason))
def test_one_that_finds_the_old_one_hidden_fails(reason: Reason) -> None:
    found = after({"OLD": HiddenUpload(reason=reason)}, done("NEW", replaces="OLD"), arrived=("NEW",))
    assert found["NEW"].reason is Reason.FAILED
    assert found["OLD"].reason is reason


def test_of_two_that_replace_one_the_first_wins() -> None:
    both = (done("A", replaces="OLD"), done("B", replaces="OLD"))
    found = after({}, *both, arrived=("A", "B"))
    assert found == {
        "OLD": HiddenUpload(reason=Reason.REPLACED, by="A"),
        "B": HiddenUpload(reason=Reason.FAILED, ranges=SPAN),
    }


def test_a_replacement_without_rows_needs_no_rows_to_replace() -> None:
    rowless = done("NEW", rows=0, replaces="OLD")
    assert is_due(version({}), {"NEW": rowless}, NONE, topic=TOPIC)
    found = after({}, rowless)
    assert found == {"OLD": HiddenUpload(reason=Reason.REPLACED, by="NEW")}
    assert after(found, rowless) == found
    assert is_settled(rowless, version(found), topic=TOPIC)
    assert not is_settled(rowless, version({}), topic=TOPIC)


@pytest.mark.parametrize("fields", [{"failure": "X"}, {"cancelled": True}])
def test_a_replacement_that_does_not_come_about_leaves_the_old_one(fields: dict[str, Any]) -> None:
    for rows in (0, 1):
        progress = done("NEW", rows=rows, replaces="OLD", **fields)
        assert "OLD" not in after({}, progress, arrived=("NEW",) if rows else ())


def test_a_retracted_upload_is_hidden_with_the_places_of_its_rows() -> None:
    commanded = Commanded(retracted={"U": SPAN})
    assert is_due(version({}), {}, commanded, topic=TOPIC)
    found = after({}, commanded=commanded)
    assert found == {"U": HiddenUpload(reason=Reason.RETRACTED, ranges=SPAN)}
    assert not is_due(version(found), {}, commanded, topic=TOPIC)


def test_a_cancellation_waits_for_the_last_row_and_does_nothing_to_what_is_shown() -> None:
    commanded = Commanded(cancelled={"U"})
    unfinished = Progress(upload_id="U", dataset="trades")
    assert after({}, unfinished, arrived=("U",), commanded=commanded)["U"].reason is Reason.LOADING
    assert after({}, done("U"), arrived=("U",), commanded=commanded)["U"].reason is Reason.CANCELLED
    assert after({}, done("U"), commanded=commanded) == {}


EVENTS = ("arrive", "finish", "fail", "retract", "cancel")


@given(st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(EVENTS)), max_size=12))
def test_a_replaced_upload_and_its_replacement_are_never_both_seen_or_both_gone(
    events: list[tuple[str, str]],
) -> None:
    # B and C replace A, which is visible from the start.
    hidden: dict[str, HiddenUpload] = {}
    progress: dict[str, Progress] = {}
    rows = {"A"}
    retracted: dict[str, Any] = {}
    cancelled: set[str] = set()
    for upload, event in events:
        if event == "arrive" and upload != "A":
            rows.add(upload)
        elif event in ("finish", "fail") and upload not in progress and upload in rows - {"A"}:
            failure = "X" if event == "fail" else None
            progress[upload] = done(upload, replaces="A", failure=failure)
        elif event == "retract":
            retracted[upload] = ()
        elif event == "cancel":
            cancelled.add(upload)
        arrived = tuple(sorted(rows - {"A"})) if event == "arrive" and upload != "A" else ()
        before = hidden
        commanded = Commanded(retracted=dict(retracted), cancelled=frozenset(cancelled))
        fresh = tuple(u for u in arrived if u == upload and u not in progress)
        hidden = after(before, *progress.values(), arrived=fresh, commanded=commanded)
        assert after(hidden, *progress.values(), commanded=commanded) == hidden
        for known, entry in before.items():
            if entry.reason is not Reason.LOADING:
                assert hidden[known].reason is entry.reason
        shown = rows - hidden.keys()
        assert len(shown) <= 1
        if not shown:
            assert hidden["A"].reason is Reason.RETRACTED or hidden[hidden["A"].by or ""].reason is (
                Reason.RETRACTED
            )


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


def commands(clock: Clock | None = None) -> Commands:
    return Commands(
        KafkaSettings(bootstrap_servers="nowhere:1"),
        codec=SimpleNamespace(),  # type: ignore[arg-type]
        starts={0: 4},
        clock=clock or Clock(),  # type: ignore[arg-type]
    )


def order(upload: str, kind: str, **arguments: str) -> dict[str, Any]:
    known = {"dataset": "trades", **arguments}
    return {"upload_id": upload, "kind": kind, "issued_at": NOW, "arguments": known}


def test_a_command_waits_until_a_version_obeys_it() -> None:
    known = commands()
    known.add(order("U", "retract", ranges="[[0, 0, 3, 5]]"), place=(0, 7))
    known.add(order("V", "cancel"), place=(0, 8))
    assert known.pending("trades") == Commanded(retracted={"U": SPAN}, cancelled={"V"})
    assert not known.pending("quotes")
    assert known.resume("trades") == {0: 4}
    obeyed = {"U": HiddenUpload(reason=Reason.RETRACTED), "V": HiddenUpload(reason=Reason.LOADING)}
    known.settle("trades", version(obeyed), settled=frozenset())
    assert known.pending("trades") == Commanded(cancelled={"V"})
    known.settle("trades", version({}), settled={"V"})
    assert not known.pending("trades")


def test_a_cancellation_of_what_can_no_longer_come_is_forgotten() -> None:
    clock = Clock()
    known = commands(clock)
    known.add(order("V", "cancel"), place=(0, 8))
    clock.at = NOW + CANCEL_LASTS + timedelta(seconds=1)
    known.settle("trades", version({}), settled=frozenset())
    assert not known.pending("trades")


@pytest.mark.parametrize(
    "command",
    [order("U", "explode"), order("U", "retract", ranges="x"), order("U", "retract", ranges="[[1]]")],
)
def test_what_is_no_command_is_refused(command: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        commands().add(command, place=(0, 0))
