"""A body is on disk whole, or nothing of it is."""

import gzip
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import zstandard
from ingest_gateway.digests import ContentDigest
from ingest_gateway.limits import Limits
from ingest_gateway.spool import Received, Spool
from ingest_gateway.unpacking import UNPACKERS
from k2common.http.problems import Problem
from k2common.runtime.blocking import Blocking

ID, OTHER = "01M86KAY8WBQN4BGJ0DGREQQCB", "01M86KAY8WBQN4BGJ0DGREQQCC"

LIMITS = Limits(content_bytes=10, line_bytes=2**20, reserve_bytes=0)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    pool = Blocking(workers=1)
    yield pool
    pool.close()


@pytest.fixture
def spool(tmp_path: Path, blocking: Blocking) -> Spool:
    return Spool(
        tmp_path / "spool",
        limits=LIMITS,
        blocking=blocking,
    )


async def body(*parts: bytes, broken: bool = False) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if broken:
        raise ConnectionResetError


async def receive(spool: Spool, parts: AsyncIterator[bytes], *, encoding: str = "identity") -> Received:
    return await spool.receive(parts, unpacker=UNPACKERS[encoding](), expected=ContentDigest(None))


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "spool").iterdir())


async def test_a_body_is_counted_and_hashed(spool: Spool) -> None:
    received = await receive(spool, body(b"abc", b"", b"def"))
    assert (received.bytes, received.sha256) == (6, hashlib.sha256(b"abcdef").hexdigest())
    spool.keep(received, ID)
    assert spool.has(ID)
    with spool.open(ID) as file:
        assert file.read() == b"abcdef"


async def test_a_body_that_is_too_long_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        await receive(spool, body(b"x" * 8, b"y" * 3))
    assert caught.value.status == 413
    assert files(tmp_path) == []


async def test_a_body_that_ends_early_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        await receive(spool, body(b"abc", broken=True))
    assert files(tmp_path) == []


async def test_a_start_removes_halves_and_what_no_claim_wants(tmp_path: Path, blocking: Blocking) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    for name in ("half.partial", ID, OTHER):
        (folder / name).write_bytes(b"")
    spool = Spool(folder, limits=LIMITS, blocking=blocking)
    assert files(tmp_path) == [ID, OTHER]
    spool.sweep({OTHER})
    assert files(tmp_path) == [OTHER]


async def test_what_came_since_the_start_is_never_swept(spool: Spool, tmp_path: Path) -> None:
    spool.keep(await receive(spool, body(b"abc")), ID)
    spool.sweep(set())
    assert files(tmp_path) == [ID]


async def test_a_name_that_is_no_upload_is_no_path(spool: Spool) -> None:
    with pytest.raises(ValueError, match=r"(?i)ulid|length|characters"):
        spool.has("../../etc/passwd")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_small_body_of_a_large_content_stops_at_the_limit(
    spool: Spool, tmp_path: Path, encoding: str
) -> None:
    content = bytes(500_000_000)
    packed = gzip.compress(content, 1) if encoding == "gzip" else zstandard.compress(content)
    assert len(packed) < 3_000_000
    with pytest.raises(Problem) as caught:
        await receive(spool, body(packed), encoding=encoding)
    assert caught.value.status == 413
    assert files(tmp_path) == []
