"""A body is on disk whole, or nothing of it is."""

import gzip
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import zstandard
from ingest_gateway.body.decompression import UNPACKERS
from ingest_gateway.body.digests import ContentDigest
from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import ReceivedBody, Spool, StoredBody
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


async def receive(spool: Spool, parts: AsyncIterator[bytes], *, encoding: str = "identity") -> ReceivedBody:
    return await spool.receive(parts, unpacker=UNPACKERS[encoding](), expected=ContentDigest(None))


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "spool").iterdir())


async def test_a_body_is_counted_and_hashed(spool: Spool) -> None:
    received = await receive(spool, body(b"abc", b"", b"def"))
    assert (received.bytes, received.sha256) == (6, hashlib.sha256(b"abcdef").hexdigest())
    await spool.keep(received, ID, b"claim")
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


async def test_a_start_removes_halves_and_finds_the_bodies_with_their_claims(
    tmp_path: Path, blocking: Blocking
) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, limits=LIMITS, blocking=blocking)
    (folder / "half.partial").write_bytes(b"")
    for upload_id in (ID, OTHER):
        await spool.keep(await receive(spool, body(b"abc")), upload_id, upload_id.encode())
    await spool.mark_answered(OTHER)
    assert spool.stored() == [], "what came since the start is no matter of the start"
    later = Spool(folder, limits=LIMITS, blocking=blocking)
    assert later.stored() == [
        StoredBody(upload_id=ID, claim=ID.encode(), answered=False),
        StoredBody(upload_id=OTHER, claim=OTHER.encode(), answered=True),
    ]
    assert files(tmp_path) == [ID, f"{ID}.claim", OTHER, f"{OTHER}.answered"]


async def test_a_body_of_an_older_version_has_no_claim_beside_it(tmp_path: Path, blocking: Blocking) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / ID).write_bytes(b"abc")
    spool = Spool(folder, limits=LIMITS, blocking=blocking)
    assert spool.stored() == [StoredBody(upload_id=ID, claim=None, answered=False)]


async def test_a_quarantined_body_stays_with_its_claim(
    spool: Spool, tmp_path: Path, blocking: Blocking
) -> None:
    await spool.keep(await receive(spool, body(b"abc")), ID, b"claim")
    await spool.mark_answered(ID)
    spool.quarantine(ID)
    assert not spool.has(ID)
    assert spool.quarantined() == 1
    later = Spool(tmp_path / "spool", limits=LIMITS, blocking=blocking)
    assert (later.stored(), later.quarantined()) == ([], 1)
    assert (tmp_path / "spool" / "quarantine" / ID).read_bytes() == b"abc"
    assert (tmp_path / "spool" / "quarantine" / f"{ID}.answered").read_bytes() == b"claim"


async def test_a_removed_body_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    await spool.keep(await receive(spool, body(b"abc")), ID, b"claim")
    await spool.mark_answered(ID)
    spool.remove(ID)
    assert files(tmp_path) == []


async def test_a_lent_body_takes_the_claim_of_the_other(spool: Spool, tmp_path: Path) -> None:
    await spool.keep(await receive(spool, body(b"abc")), ID, b"mine")
    await spool.lend(ID, OTHER, b"other")
    assert files(tmp_path) == [OTHER, f"{OTHER}.claim"]
    assert (tmp_path / "spool" / f"{OTHER}.claim").read_bytes() == b"other"


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
