"""The commit protocol keeps its promises in every order of events, and a broken one is found out."""

from __future__ import annotations

from typing import Any

import pytest
from iceberg_sink.commits import version_change as change
from iceberg_sink.uploads.visibility import hidden_after
from k2common.iceberg.commits import decision
from k2common.iceberg.versions.documents import STATE_TAG
from k2common.versions.hidden import Reason

from tests.model.explorer import Broken, explore
from tests.model.protocol import Protocol
from tests.model.world import Scenario

LIMIT = 200_000
SINKS = frozenset({"lost", "kill"})
OTHERS = frozenset({"foreign", "expiry", "rollback"})
ALL = SINKS | OTHERS | {"compaction"}
ONE = (("A", "A"),)
TWO = (("A",), ("A",))
B_FOR_A = {"B": "A"}
SCENARIOS = {
    "two rows, any two disruptions": Scenario(log=ONE, kinds=ALL, disruptions=2, informed=True),
    "two partitions, any disruption": Scenario(log=TWO, kinds=ALL, disruptions=1, informed=True),
    "statuses heard at any time": Scenario(log=TWO, kinds=frozenset(), disruptions=0),
    "a failed upload": Scenario(
        log=(("A", "B"),), failed=frozenset({"A"}), kinds=SINKS, disruptions=1, informed=True
    ),
    "other engines, four times": Scenario(log=(("A",),), kinds=OTHERS, disruptions=4, informed=True),
    "other engines that forget parents": Scenario(
        log=(("A",),), kinds=OTHERS, disruptions=3, informed=True, cut=True
    ),
    "a replacement": Scenario(log=(("A", "B"),), replaces=B_FOR_A, kinds=ALL, disruptions=1, informed=True),
    "a replacement in two partitions": Scenario(
        log=(("A", "B"), ("A",)), replaces=B_FOR_A, kinds=frozenset(), disruptions=0, informed=True
    ),
    "a replacement and retractions": Scenario(
        log=(("A", "B"),),
        replaces=B_FOR_A,
        retractable=("A", "B"),
        kinds=frozenset({"lost"}),
        disruptions=1,
        informed=True,
    ),
    "strays with the id of an upload and with one that nobody knows": Scenario(
        log=(("A", "A", "X"), ("A",)),
        strays=frozenset({(0, 1), (0, 2)}),
        kinds=SINKS,
        disruptions=1,
        informed=True,
    ),
    "a stray before its upload, statuses heard at any time": Scenario(
        log=(("A", "A"),), strays=frozenset({(0, 0)}), kinds=SINKS, disruptions=0
    ),
    "a retraction heard at any time": Scenario(log=ONE, retractable=("A",), kinds=SINKS, disruptions=0),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_order_of_events_breaks_a_promise(name: str) -> None:
    explored = explore(SCENARIOS[name], limit=LIMIT)
    print(f"\n{name}: {explored.states} states, {explored.steps} steps, {explored.at_rest} at rest")
    assert explored.at_rest


def without_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "check_owner", lambda head, proposal: None)


def without_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decision.guarded

    def untagged(metadata: Any, snapshot: Any) -> Any:
        updates, requirements = real(metadata, snapshot)
        return [u for u in updates if getattr(u, "ref_name", None) != STATE_TAG], requirements

    monkeypatch.setattr(decision, "guarded", untagged)


def without_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decision.guarded
    monkeypatch.setattr(decision, "guarded", lambda metadata, snapshot: (real(metadata, snapshot)[0], ()))


def numbers_from_main_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "tagged_version", lambda metadata: None)


def rolled_back_versions_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "merge_spans", lambda spans: ())


def the_tag_trusted_after_any_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "is_lost", lambda metadata: False)


def everything_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(hidden: Any, *arguments: Any, **others: Any) -> Any:
        loading = {upload: entry for upload, entry in hidden.items() if entry.reason is Reason.LOADING}
        return hidden_after(loading, *arguments, **others)

    monkeypatch.setattr(change, "hidden_after", forgetful)


def shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "hidden_after", lambda *arguments, **others: {})


def membership_by_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is a row of the upload that it names itself, as before ADR 9."""
    monkeypatch.setattr(Protocol, "is_row", lambda protocol, place: True)


def strays_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strays stay out of the table, but what they say still counts for what is hidden."""
    real = Protocol._arrived  # noqa: SLF001

    def with_strays(protocol: Protocol, work: Any) -> Any:
        with pytest.MonkeyPatch.context() as every:
            every.setattr(Protocol, "is_row", lambda protocol, place: True)
            return real(protocol, work)

    monkeypatch.setattr(Protocol, "_arrived", with_strays)


STRAYS = "strays with the id of an upload and with one that nobody knows"
BREAKS = {
    membership_by_field: (STRAYS, "not in the table exactly once"),
    strays_hide: (STRAYS, "stay hidden as loading"),
    without_owner: ("two rows, any two disruptions", "not in the table exactly once"),
    without_tag: ("two rows, any two disruptions", "the tag is behind"),
    without_guard: ("two rows, any two disruptions", "not in the table exactly once|an offset goes back"),
    numbers_from_main_alone: ("two rows, any two disruptions", "the tag is behind|number 2 comes after 2"),
    rolled_back_versions_stay: ("two rows, any two disruptions", "showed|shows a part"),
    the_tag_trusted_after_any_rollback: ("other engines, four times", "not in the table exactly once"),
    everything_shown_again: ("a failed upload", "hidden as failed"),
    shown_at_once: ("two rows, any two disruptions", "shows a part of A"),
}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_a_broken_core_is_found_out(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, promise = BREAKS[broken]
    broken(monkeypatch)
    with pytest.raises(Broken, match=promise):
        explore(SCENARIOS[scenario], limit=LIMIT)
