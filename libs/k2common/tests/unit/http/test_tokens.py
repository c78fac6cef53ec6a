"""A token is read by the endpoint that made it alone, and only in the shape that it was made in."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.http.problems import Problem
from k2common.http.tokens import TokenMaker, derive_key, hkdf_sha256

SECRET = b"a-secret-of-the-tests"


@dataclass(frozen=True)
class Page:
    version: str | None
    key: list[Any]
    at: int = 0


@dataclass(frozen=True)
class RowKey:
    after: tuple[str, int, int, int]


def pages(secret: bytes = SECRET, purpose: str = "rows") -> TokenMaker[Page]:
    return TokenMaker(secret, purpose=purpose, shape=Page)


@given(st.text(), st.lists(st.text() | st.integers(-(2**62), 2**62) | st.none()), st.integers(0, 2**31))
def test_what_was_signed_comes_back(version: str, key: list[Any], at: int) -> None:
    page = Page(version=version.encode(errors="replace").decode(), key=[*map(clean, key)], at=at)
    assert pages().read(pages().make(page)) == page


def clean(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def test_a_token_of_another_purpose_or_secret_is_refused() -> None:
    token = pages().make(Page(version="trades@1", key=["A", 1]))
    for other in (pages(purpose="dead letters"), pages(secret=b"another-secret-of-tests")):
        refused(other, token)
    refused(TokenMaker(SECRET, purpose="letters", shape=RowKey), token)


@pytest.mark.parametrize("token", ["", "é", "A" * 60, "\ud987", "=", "a b", "x" * 4000])
def test_what_is_no_token_is_refused(token: str) -> None:
    refused(pages(), token)


def test_a_token_of_the_purpose_in_another_shape_is_refused() -> None:
    """As another version of the software would have signed it."""
    for shape, payload in ((RowKey, RowKey(after=("t", 0, 0, 1))), (dict, {"version": 1, "key": []})):
        other: TokenMaker[Any] = TokenMaker(SECRET, purpose="rows", shape=shape)
        refused(pages(), other.make(payload))


def test_every_bit_is_signed() -> None:
    token = pages().make(Page(version="trades@1", key=[]))
    for at, letter in enumerate(token[:-1]):
        refused(pages(), f"{token[:at]}{'B' if letter == 'A' else 'A'}{token[at + 1 :]}")


def test_keys_are_derived_as_the_standard_says() -> None:
    """RFC 5869, appendix A.1 to A.3."""
    found = hkdf_sha256(
        bytes.fromhex("0b" * 22), salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA)), length=42
    )
    assert found.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    found = hkdf_sha256(
        bytes(range(0x50)), salt=bytes(range(0x60, 0xB0)), info=bytes(range(0xB0, 0x100)), length=82
    )
    assert found.hex() == (
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87"
    )
    found = hkdf_sha256(bytes.fromhex("0b" * 22), salt=b"", info=b"", length=42)
    assert found.hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    assert derive_key(SECRET, "a") != derive_key(SECRET, "b")


def refused(maker: TokenMaker[Any], token: str) -> None:
    with pytest.raises(Problem) as problem:
        maker.read(token)
    assert (problem.value.status, problem.value.code) == (400, "INVALID_PAGE_TOKEN")
