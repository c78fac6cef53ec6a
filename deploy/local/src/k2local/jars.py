"""The stack's Java archives: every file is one that the lock names, with the hash that the lock gives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jgo.maven import MavenContext
from k2common.errors import SetupError

from k2local.archives import unpack

THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedArtifact:
    """Maven coordinates of one file and the SHA-256 of its content, hex."""

    component: str
    group: str
    artifact: str
    version: str
    classifier: str
    packaging: str
    sha256: str

    @property
    def filename(self) -> str:
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{suffix}.{self.packaging}"


Download = Callable[[LockedArtifact, Path], Path]
"""Brings one artifact into a scratch folder and says where it lies; its content is not trusted yet."""


def locked_artifacts(lock: Path | None = None) -> Sequence[LockedArtifact]:
    """All files of the lock: the stack's, or another of the same form."""
    found = resources.files("k2local").joinpath("jars.lock.json") if lock is None else lock
    text = found.read_text("utf-8")
    return [LockedArtifact(**entry) for entry in json.loads(text)]


def download(artifact: LockedArtifact, scratch: Path) -> Path:
    """The file as Maven's default repository has it.

    Raises SetupError when it cannot be had.
    """
    context = MavenContext(repo_cache=scratch)
    component = context.project(artifact.group, artifact.artifact).at_version(artifact.version)
    try:
        return component.artifact(artifact.classifier, artifact.packaging).resolve()
    except (OSError, RuntimeError) as error:
        raise SetupError(
            f"{artifact.filename} could not be downloaded; is there a network? ({error})"
        ) from error


def install(cache: Path, artifacts: Sequence[LockedArtifact], *, fetch: Download = download) -> None:
    """Put every artifact under `cache`, in a folder per component; what is there is not fetched again.

    A file gets its name only after its hash was checked, so a run that was killed leaves no bad file.
    Raises SetupError for a hash that differs from the lock's.
    """
    missing = [artifact for artifact in artifacts if not _target(cache, artifact).exists()]
    if not missing:
        return
    print(f"setup - {len(missing)} of {len(artifacts)} Java archives", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=cache) as scratch,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        list(pool.map(lambda artifact: _install_one(cache, artifact, Path(scratch), fetch), missing))


def _target(cache: Path, artifact: LockedArtifact) -> Path:
    if artifact.packaging == "tar.gz":
        return cache / artifact.component / artifact.sha256
    return cache / artifact.component / artifact.filename


def _install_one(cache: Path, artifact: LockedArtifact, scratch: Path, fetch: Download) -> None:
    file = fetch(artifact, scratch)
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != artifact.sha256:
        raise SetupError(f"{artifact.filename} has SHA-256 {found}, but the lock says {artifact.sha256}")
    target = _target(cache, artifact)
    target.parent.mkdir(parents=True, exist_ok=True)
    if artifact.packaging != "tar.gz":
        file.replace(target)
        return
    unpacked = Path(tempfile.mkdtemp(dir=scratch))
    unpack(file, unpacked)
    try:
        unpacked.rename(target)
    except OSError:
        # Another process was first; its content has the same hash.
        if not target.is_dir():
            raise
        shutil.rmtree(unpacked)


def kafka_classpath(cache: Path) -> str:
    """Java class path of the broker."""
    return os.fspath(cache / "kafka" / "*")


def registry_home(cache: Path) -> Path:
    """Folder that holds the registry's `quarkus-run.jar`."""
    (artifact,) = [entry for entry in locked_artifacts() if entry.component == "registry"]
    (jar,) = _target(cache, artifact).rglob("quarkus-run.jar")
    return jar.parent


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]), locked_artifacts(*map(Path, sys.argv[2:3])))
    except SetupError as error:
        sys.exit(f"setup - {error}")
    except KeyboardInterrupt:
        sys.exit("setup - interrupted")
