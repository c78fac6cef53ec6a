"""Unpacking of tar archives on every Python, also those before 3.11.4 that know no extraction filter."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from k2common.errors import SetupError

MODES = 0o755
OWN = 0o600


def unpack(archive: Path, target: Path) -> None:
    """Extract the folders and regular files of a tar archive into the folder `target`.

    Raises SetupError for a member that would land outside of `target` and for links, devices and pipes.
    """
    with tarfile.open(archive) as members:
        for member in members:
            _extract(members, member, target)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise SetupError(f"the archive's member {member.name!r} lies outside of its folder")
    path = target / name
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise SetupError(f"the archive's member {member.name!r} is neither a file nor a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("xb") as file:
        shutil.copyfileobj(content, file)
        os.fchmod(file.fileno(), member.mode & MODES | OWN)
