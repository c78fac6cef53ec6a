"""Keys that stand twice are named by their pointers, however deep they lie; all other text passes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.http.json_bodies import MAX_POINTER_LETTERS, refuse_repeated_keys, repeated_keys
from k2common.http.problems import Problem

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ('{"a": 1, "a": 1}', ["/a"]),
        ('{"a": 1, "b": 2, "a": 3, "a": 4, "b": 5}', ["/a", "/b"]),
        ('{"a": 1, "\\u0061": 2}', ["/a"]),
        ('{"x": [{}, {"a/b~": {"k": 1, "k": 2}}]}', ["/x/1/a~1b~0/k"]),
        ('{"a": {"b": 1}, "c": {"b": 1}}', []),
        ('[{"a": 1}, {"a": 1}]', []),
        ('{"a": 1, "a": 1' + "0" * 5000 + "}", ["/a"]),
        ('{"": 1, "": 2}', ["/"]),
        ("[" * 500 + '{"a":1,"a":2}' + "]" * 500, ["/0" * 500 + "/a"]),
        ('{"a": NaN, "a": 1e999}', ["/a"]),
    ],
)
def test_repeated_keys_are_named_by_their_pointers(text: str, pointers: list[str]) -> None:
    assert list(repeated_keys(text)) == list(repeated_keys(text.encode())) == pointers


@pytest.mark.parametrize("text", [b"", b"a,b\n1,2\n", b'{"a":1,"a":', b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_passes(text: bytes) -> None:
    refuse_repeated_keys(text)


@given(VALUES)
def test_what_a_library_writes_passes(value: Any) -> None:
    refuse_repeated_keys(json.dumps(value))


def test_the_answer_names_a_bounded_part_of_many() -> None:
    text = ",".join(f'"k{n}": 1, "k{n}": 2' for n in range(50_000))
    with pytest.raises(Problem) as refused:
        refuse_repeated_keys(f"{{{text}}}")
    assert (refused.value.status, refused.value.code) == (400, "INVALID_PARAMETER")
    errors = [error.to_json() for error in refused.value.errors]
    assert errors[0] == {
        "pointer": "/k0",
        "code": "REPEATED",
        "message": "/k0 stands more than once",
        "value": None,
    }
    assert sum(len(error["pointer"]) for error in errors) < MAX_POINTER_LETTERS + 10
