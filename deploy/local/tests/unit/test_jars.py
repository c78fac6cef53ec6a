"""Only files with the lock's hash get their name in the cache."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from k2common.errors import SetupError
from k2local.jars import LockedArtifact, install, locked_artifacts


def artifact(content: bytes, *, packaging: str = "jar") -> LockedArtifact:
    return LockedArtifact(
        component="kafka",
        group="org.example",
        artifact="thing",
        version="1",
        classifier="",
        packaging=packaging,
        sha256=hashlib.sha256(content).hexdigest(),
    )


class Downloads:
    """Gives the same bytes for every artifact and counts."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.count = 0

    def __call__(self, wanted: LockedArtifact, scratch: Path) -> Path:
        self.count += 1
        file = scratch / wanted.filename
        file.write_bytes(self.content)
        return file


def test_a_second_install_downloads_nothing(tmp_path: Path) -> None:
    fetch = Downloads(b"jar")
    install(tmp_path, [artifact(b"jar")], fetch=fetch)
    install(tmp_path, [artifact(b"jar")], fetch=fetch)
    assert fetch.count == 1
    assert (tmp_path / "kafka" / "thing-1.jar").read_bytes() == b"jar"


def test_a_file_with_another_hash_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="the lock says"):
        install(tmp_path, [artifact(b"good")], fetch=Downloads(b"bad"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    install(tmp_path, [artifact(b"good")], fetch=Downloads(b"good"))
    assert (tmp_path / "kafka" / "thing-1.jar").read_bytes() == b"good"


def test_an_archive_is_unpacked_under_its_hash(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("app/quarkus-run.jar")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"jar"))
    wanted = artifact(packed.getvalue(), packaging="tar.gz")
    fetch = Downloads(packed.getvalue())
    install(tmp_path, [wanted], fetch=fetch)
    install(tmp_path, [wanted], fetch=fetch)
    assert fetch.count == 1
    assert (tmp_path / "kafka" / wanted.sha256 / "app" / "quarkus-run.jar").read_bytes() == b"jar"


def test_the_lock_names_a_broker_and_one_registry_with_whole_hashes() -> None:
    artifacts = locked_artifacts()
    assert {len(entry.sha256) for entry in artifacts} == {64}
    assert [entry.artifact for entry in artifacts if entry.component == "registry"] == [
        "apicurio-registry-app"
    ]
    assert "kafka_2.13" in {entry.artifact for entry in artifacts if entry.component == "kafka"}
