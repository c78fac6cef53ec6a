"""Archives are unpacked without what only some Pythons have, and nothing lands outside of the folder."""

import io
import tarfile
from pathlib import Path

import pytest
from k2common.errors import SetupError
from k2local.archives import unpack


def packed(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name: str, *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, link
    return entry


def test_files_keep_their_content_and_their_right_to_run(tmp_path: Path) -> None:
    archive = packed(
        tmp_path / "a.tar.gz",
        member("app", kind=tarfile.DIRTYPE, mode=0o777),
        member("app/run.sh", mode=0o6777),
        member("lib/deep/a.jar"),
        content=b"bytes",
    )
    unpack(archive, tmp_path / "target")
    assert (tmp_path / "target/lib/deep/a.jar").read_bytes() == b"bytes"
    assert (tmp_path / "target/app/run.sh").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "bad",
    [
        member("../out"),
        member("app/../../out"),
        member("/out"),
        member("link", kind=tarfile.SYMTYPE, link="/etc"),
        member("hard", kind=tarfile.LNKTYPE, link="app"),
        member("pipe", kind=tarfile.FIFOTYPE),
    ],
    ids=lambda entry: entry.name,
)
def test_a_member_that_could_write_elsewhere_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    archive = packed(tmp_path / "a.tar.gz", bad)
    with pytest.raises(SetupError, match="the archive's member"):
        unpack(archive, tmp_path / "in" / "target")
    assert [path for path in tmp_path.rglob("*") if path.name == "out"] == []
