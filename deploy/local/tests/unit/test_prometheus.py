"""The package comes by the system's lists or by lists of our own, once, and never in part."""

from pathlib import Path

import pytest
from k2common.errors import SetupError
from k2local import prometheus

APT = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
*Dir::State::Lists*download*) ;;
*download*) [ {without_lists} = 0 ] || exit 100 ;;
*) exit 100 ;;
esac
touch prometheus_1_all.deb
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin" && touch "$3/usr/bin/prometheus" "$3/usr/bin/promtool" && exit {unpacked}
"""


class System:
    """Stand-ins for Debian's tools, and what was asked of apt."""

    def __init__(self, folder: Path, *, without_lists: int = 0, unpacked: int = 0) -> None:
        self.log = folder / "log"
        self.log.touch()
        for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
            program = folder / name
            program.write_text(text.format(log=self.log, without_lists=without_lists, unpacked=unpacked))
            program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """What was asked of apt-get, without its options."""
        return [
            next(word for word in line.split() if word in {"download", "update"})
            for line in self.log.read_text().splitlines()
        ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


def test_a_second_install_asks_apt_for_nothing(folder: Path, tmp_path: Path) -> None:
    system = System(folder)
    first = prometheus.install(tmp_path / "cache")
    assert prometheus.install(tmp_path / "cache") == first
    assert first.promtool.is_file()
    assert system.asked == ["download"]


def test_lists_that_are_not_there_are_fetched_though_one_source_is_away(folder: Path, tmp_path: Path) -> None:
    system = System(folder, without_lists=100)
    assert prometheus.install(tmp_path / "cache").prometheus.is_file()
    assert system.asked == ["download", "update", "download"]


def test_a_package_that_cannot_be_unpacked_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    System(folder, unpacked=2)
    with pytest.raises(SetupError, match="dpkg-deb"):
        prometheus.install(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_system_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="no apt-get"):
        prometheus.install(tmp_path / "cache")
