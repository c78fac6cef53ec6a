"""Dockerfiles are alike, clean, and install for each service what it imports and no more."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest-gateway", "csv-loader", "iceberg-sink", "query-service", "replay-service")
BIN = Path(sys.executable).parent
# What only some services need; the rest comes with every Kafka client or table.
OPTIONAL = {"duckdb", "duckdb-extension-httpfs", "polars", "polars-avro"}


def modules_of(package: str) -> dict[str, Path]:
    """Every module of our own by its name."""
    folder = ROOT / ("libs/k2common/src" if package == "k2common" else f"services/{package}/src")
    found = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_by(path: Path) -> set[str]:
    """Names of the modules that a module imports, also inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def reached(service: str) -> set[str]:
    """The other packages that the service's modules import, by way of the library too."""
    known = modules_of("k2common") | modules_of(service)
    todo, seen, others = set(modules_of(service)) | {"k2common.provision", "k2common.probe"}, set(), set()
    while todo:
        module = todo.pop()
        seen.add(module)
        for name in imported_by(known[module]):
            if name in known:
                todo |= {name} - seen
            elif not name.startswith(("k2common", service.replace("-", "_"))):
                others.add(name.partition(".")[0])
    return others


def locked(path: str) -> dict[str, set[str]]:
    """Name and versions of what stands in a lock; a service has what is common too."""
    if path.startswith("services/"):
        return {**locked("deploy/docker/common.lock"), **read(path)}
    return read(path)


def read(path: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / path).read_text("utf-8"), re.MULTILINE
    ):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_locks_what_it_imports_and_nothing_heavy_beside(service: str) -> None:
    names = packages_distributions()
    needed = {
        re.sub(r"[._]", "-", distribution.lower())
        for module in reached(service) - set(sys.stdlib_module_names)
        for distribution in names[module]
    }
    lock = locked(f"services/{service}/requirements.lock")
    missing = sorted(needed - lock.keys())
    assert missing == [], f"take an extra of k2common in services/{service}/pyproject.toml, then ./task lock"
    assert lock.keys() & OPTIONAL == needed & OPTIONAL


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_locks_the_versions_that_are_tested(service: str) -> None:
    tested = locked("requirements.lock")
    lock = locked(f"services/{service}/requirements.lock")
    assert [name for name, versions in lock.items() if not versions <= tested.get(name, set())] == []


def test_the_dockerfiles_differ_in_names_alone() -> None:
    texts = set()
    for service, port in zip(SERVICES, range(8001, 8006), strict=True):
        told = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text("utf-8"))["project"]
        text = (ROOT / "services" / service / "Dockerfile").read_text("utf-8")
        for name in (service, service.replace("-", "_"), str(port), told["description"]):
            assert name in text
            text = text.replace(name, "…")
        texts.add(text)
    assert len(texts) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_the_linter_finds_nothing_in_a_dockerfile(service: str) -> None:
    argv = [BIN / "hadolint", ROOT / "services" / service / "Dockerfile"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
