"""The archive gives back the bytes, or says that it does not have them."""

import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pytest
from k2common.errors import DataDamaged
from k2common.iceberg.archive import Archive, ContentGone
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.testing.iceberg import folder_catalog

CONTENT = b"header\n" + bytes(range(256)) * 20_000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(open_catalog(folder_catalog(tmp_path)), root=f"file://{tmp_path}/archive")


def test_what_was_packed_in_pieces_and_frames_comes_back(archive: Archive) -> None:
    with archive.writer(SHA) as writer:
        writer.fill(io.BytesIO(CONTENT), 7)
        for start in (7, 1_000, 1_000_000):
            end = {7: 1_000, 1_000: 1_000_000}.get(start, 2_000_000)
            frame = pa.compress(CONTENT[start:end], codec="zstd", asbytes=True)
            writer.append(frame, start=start, length=end - start)
            writer.append(frame, start=start, length=end - start)
        writer.fill(io.BytesIO(CONTENT), len(CONTENT))
        writer.finish()
    assert archive.holds(SHA)
    assert b"".join(archive.content(SHA)) == CONTENT


def test_an_object_is_not_seen_before_it_is_finished(archive: Archive, tmp_path: Path) -> None:
    with archive.writer(SHA) as writer:
        writer.fill(io.BytesIO(CONTENT), 100)
        assert not archive.holds(SHA)
    assert not archive.holds(SHA)
    assert [path for path in (tmp_path / "archive").rglob("*") if path.is_file()] == []
    with pytest.raises(ContentGone):
        list(archive.content(SHA))


def test_other_bytes_under_the_name_are_an_error(archive: Archive) -> None:
    with archive.writer(SHA) as writer:
        writer.fill(io.BytesIO(CONTENT), len(CONTENT) - 1)
        writer.finish()
    with pytest.raises(DataDamaged, match="archive"):
        list(archive.content(SHA))


def test_a_hole_is_an_error(archive: Archive) -> None:
    with archive.writer(SHA) as writer, pytest.raises(RuntimeError, match="stands at 0"):
        writer.append(b"", start=5, length=1)
    with archive.writer(SHA) as writer, pytest.raises(RuntimeError, match="ends at 3"):
        writer.fill(io.BytesIO(b"abc"), 4)
