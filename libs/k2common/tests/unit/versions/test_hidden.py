"""Many hidden uploads are in a file: a version says the same, and its document stays short."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import AmendedHiddenUploads, HiddenUpload, OffsetRange, Reason, unread
from k2common.versions.version import Version

HEAD = replace(first_version(TRADES.table), offsets={0: 10})
uploads = st.sampled_from([f"U{n}" for n in range(8)])
numbers = dict.fromkeys(("epoch", "partition", "first", "end"), st.integers(0, 3))
entries = st.builds(
    HiddenUpload,
    reason=st.sampled_from(Reason),
    ranges=st.lists(st.builds(OffsetRange, **numbers), max_size=2).map(tuple),
    by=st.none() | uploads,
)
hiddens = st.dictionaries(uploads, entries)


@given(stored=hiddens, hidden=hiddens)
def test_what_amends_a_file_says_what_it_was_made_of(
    stored: Mapping[str, HiddenUpload], hidden: Mapping[str, HiddenUpload]
) -> None:
    amended = AmendedHiddenUploads("there", {}, lambda _: stored).amended(hidden)
    assert dict(amended) == hidden
    assert amended == hidden
    assert len(amended) == len(hidden)
    for upload in {*stored, *hidden}:
        assert (upload in amended, amended.get(upload)) == (upload in hidden, hidden.get(upload))
    text = replace(HEAD, hidden=amended).to_json()
    back = Version.from_json(text, lambda _: stored)
    assert (back.hidden, back.to_json()) == (hidden, text)
    document = json.loads(text)["hidden"]
    assert document.keys() == {u for u in {*stored, *hidden} if stored.get(u) != hidden.get(u)}


def test_reading_a_document_reads_no_file_until_something_is_asked_that_it_does_not_tell() -> None:
    read: list[str] = []

    def files(location: str) -> Mapping[str, HiddenUpload]:
        read.append(location)
        return {"OLD": HiddenUpload(reason=Reason.RETRACTED), "PURGED": HiddenUpload(reason=Reason.FAILED)}

    changes = {"NEW": HiddenUpload(reason=Reason.LOADING), "PURGED": None}
    text = replace(HEAD, hidden=AmendedHiddenUploads("there", changes, files)).to_json()
    version = Version.from_json(text, files)
    places = {"epoch": 0, "partition": 0, "offset": 3}
    assert (version.shows("NEW", **places), version.shows("PURGED", **places)) == (False, True)
    assert read == []
    assert (version.shows("OLD", **places), version.shows("OTHER", **places)) == (False, True)
    assert set(read) == {"there"}


def test_one_that_was_read_without_its_files_answers_nothing_wrong() -> None:
    version = Version.from_json(replace(HEAD, hidden=AmendedHiddenUploads("there", {}, unread)).to_json())
    with pytest.raises(RuntimeError, match="there cannot be read"):
        version.shows("U1", epoch=0, partition=0, offset=3)


def test_versions_share_what_they_hide_alike() -> None:
    text = replace(HEAD, hidden={"U1": HiddenUpload(reason=Reason.RETRACTED)}).to_json()
    one, other = Version.from_json(text), Version.from_json(text)
    assert one.hidden["U1"] is other.hidden["U1"]
