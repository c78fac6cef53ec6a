"""A dead letter comes back from its message as it was, and a message that is none is refused."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.domain.dead_letters import REASON_CHARACTERS, DeadLetter, redriven_header
from k2common.errors import RecordError

LETTERS = st.builds(
    DeadLetter,
    topic=st.text(min_size=1),
    epoch=st.integers(0, 9),
    partition=st.integers(0, 99),
    offset=st.integers(0, 2**63 - 1),
    reason=st.text(max_size=2 * REASON_CHARACTERS),
    lettered_at=st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - given a zone
    schema_id=st.none() | st.integers(0, 2**32 - 1),
    upload_id=st.none() | st.text(min_size=1),
    key=st.none() | st.binary(),
    value=st.none() | st.binary(),
)


@given(letter=LETTERS)
def test_a_letter_is_read_as_it_was_written(letter: DeadLetter) -> None:
    back = DeadLetter.of_message(key=letter.key, value=letter.value, headers=letter.headers())
    assert back.position == letter.position
    assert (back.key, back.value, back.schema_id) == (letter.key, letter.value, letter.schema_id)
    assert (back.upload_id, back.lettered_at) == (letter.upload_id, letter.lettered_at)
    assert back.reason == letter.reason[:REASON_CHARACTERS]


@pytest.mark.parametrize("headers", [[], [("k2-topic", b"t"), ("k2-epoch", None)]])
def test_a_message_without_its_headers_is_no_letter(headers: list[tuple[str, bytes | None]]) -> None:
    with pytest.raises(RecordError, match="no dead letter"):
        DeadLetter.of_message(key=None, value=b"x", headers=headers)


def test_a_redriven_message_names_its_letter() -> None:
    assert redriven_header(("t", 1, 2, 3)) == ("k2-redriven", b"t/1/2/3")
