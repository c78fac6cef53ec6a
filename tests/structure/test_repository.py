"""The repository holds nothing that belongs to one machine, and its modules stay small."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# In parts, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("repo", "maven", "apache", "org"),
        ("repo1", "maven", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
        ("deb", "debian", "org"),
    )
]
MACHINE_PATHS = ["/" + name + "/" for name in ("work", "root", "farm")]


def tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - the git of the developer
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("text", REGISTRY_HOSTS + MACHINE_PATHS)
def test_no_tracked_file_names_a_registry_host_or_a_machine_path(text: str) -> None:
    assert [path for path in tracked() if text.encode() in path.read_bytes()] == []


def test_modules_stay_small_and_have_names_of_nouns() -> None:
    modules = [path for path in tracked() if path.suffix == ".py"]
    assert modules
    assert [path for path in modules if len(path.read_text("utf-8").splitlines()) > 400] == []
    assert [path for path in modules if path.stem in {"utils", "helpers", "common"}] == []


def test_every_declared_package_is_locked_at_a_version_that_fits() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    versions = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock, re.MULTILINE))
    projects = [tomllib.loads(path.read_text("utf-8")) for path in tracked() if path.name == "pyproject.toml"]
    ours = {project["project"]["name"] for project in projects}
    for project in projects:
        groups = project.get("dependency-groups", {}).values()
        for text in [*project["project"]["dependencies"], *(text for group in groups for text in group)]:
            requirement = Requirement(text)
            if requirement.name not in ours:
                assert versions[requirement.name.lower()] in requirement.specifier, text


def test_the_locks_have_one_version_of_a_package_for_every_python() -> None:
    locks = [path for path in tracked() if path.name in {"requirements.lock", "common.lock", "build.lock"}]
    assert locks
    for lock in locks:
        pins = re.findall(r"^([a-z0-9._-]+)==\S+(.*)$", lock.read_text("utf-8"), re.MULTILINE)
        names = [name for name, _ in pins]
        assert sorted(names) == sorted(set(names)), lock
        assert [name for name, marker in pins if "python_" in marker.replace("platform_python_", "")] == []


def test_archives_are_unpacked_by_the_one_function_that_every_python_has() -> None:
    # The filters of tarfile's own extraction came with Python 3.11.4, without them it is unsafe.
    modules = [path for path in tracked() if path.suffix == ".py"]
    unpacking = re.compile(r"extractall\b|unpack_archive\b".replace("\\b", r"\("))
    assert [path for path in modules if unpacking.search(path.read_text("utf-8"))] == []


def test_every_task_says_what_it_does() -> None:
    tasks = re.split(r"^  (?=\S)", (ROOT / "Taskfile.yml").read_text("utf-8"), flags=re.MULTILINE)[1:]
    named = [task for task in tasks if not task.startswith(("SERVICES", "WORKSPACE"))]
    assert named
    assert [task.splitlines()[0] for task in named if "\n    desc: " not in task] == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [path for path in tracked() if path.suffix == ".md"]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
    ]
    assert links
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []
