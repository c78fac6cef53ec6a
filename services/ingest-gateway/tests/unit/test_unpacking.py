"""A packed body is its content, however it is cut on the way; a broken one is refused."""

import base64
import gzip
import hashlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from ingest_gateway.body.decompression import UNPACKERS
from ingest_gateway.body.digests import ContentDigest
from k2common.http.problems import Problem

PACK = {"gzip": gzip.compress, "zstd": zstandard.compress, "identity": bytes}


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def unpacked(encoding: str, parts: list[bytes]) -> bytes:
    unpacker = UNPACKERS[encoding]()
    content = b"".join(piece for part in parts for piece in unpacker.feed(part))
    unpacker.end()
    return content


@pytest.mark.parametrize("encoding", PACK)
@given(members=st.lists(st.binary(min_size=1, max_size=9_000), max_size=3), size=st.integers(1, 5_000))
def test_the_content_comes_back(encoding: str, members: list[bytes], size: int) -> None:
    packed = b"".join(PACK[encoding](member) for member in members)
    assert unpacked(encoding, cut(packed, size)) == b"".join(members)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_large_content_comes_in_bounded_pieces(encoding: str) -> None:
    unpacker = UNPACKERS[encoding]()
    packed = PACK[encoding](bytes(300_000_000))
    sizes = [len(piece) for piece in unpacker.feed(packed)]
    assert sum(sizes) == 300_000_000
    assert max(sizes) <= 64 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("fault", ["cut", "other", "tail"])
def test_a_broken_body_is_400(encoding: str, fault: str) -> None:
    packed = PACK[encoding](b"content " * 1_000)
    broken = {"cut": packed[:-3], "other": b"no such encoding", "tail": packed + b"x"}[fault]
    with pytest.raises(Problem) as caught:
        unpacked(encoding, [broken])
    assert (caught.value.status, caught.value.code) == (400, "BODY_NOT_DECODABLE")


def header(name: str, data: bytes) -> str:
    digest = hashlib.new(name.replace("-", ""), data).digest()
    return f"{name}=:{base64.b64encode(digest).decode()}:"


@pytest.mark.parametrize("name", ["sha-256", "sha-512"])
def test_a_digest_is_that_of_the_body_as_it_came(name: str) -> None:
    expected = ContentDigest(header(name, b"abc"))
    for part in (b"a", b"bc"):
        expected.update(part)
    expected.check()
    expected.update(b"d")
    with pytest.raises(Problem) as caught:
        expected.check()
    assert (caught.value.status, caught.value.code) == (400, "DIGEST_MISMATCH")


def test_unknown_algorithms_beside_a_known_one_are_passed_over() -> None:
    expected = ContentDigest(f"md5=:AAAA:, {header('sha-256', b'abc')}")
    expected.update(b"abd")
    with pytest.raises(Problem):
        expected.check()


@pytest.mark.parametrize("text", ["", "sha-256", "sha-256=abc", "md5=:AAAA:", "sha-256=:A:"])
def test_a_malformed_digest_is_400(text: str) -> None:
    with pytest.raises(Problem) as caught:
        ContentDigest(text)
    assert caught.value.status == 400


def test_no_digest_checks_nothing() -> None:
    expected = ContentDigest(None)
    expected.update(b"abc")
    expected.check()
