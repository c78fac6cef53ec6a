"""The compose file and the manifests are valid, and name no setting that does not exist."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.http.access.hosts import is_own
from k2common.provision import ProvisionSettings
from k2common.settings.block import Block
from k2common.settings.load import load
from query_service.settings import QueryServiceSettings
from replay_service.settings import ReplayServiceSettings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSION = "1.30"
SETTINGS: Mapping[str, type[Block]] = {
    "ingest-gateway": IngestGatewaySettings,
    "csv-loader": CsvLoaderSettings,
    "iceberg-sink": IcebergSinkSettings,
    "query-service": QueryServiceSettings,
    "replay-service": ReplayServiceSettings,
}
OURS: Mapping[str, type[Block]] = {**SETTINGS, "init": ProvisionSettings, "provision": ProvisionSettings}
PROFILES = ("tracing", "kafka-ui", "spark")


@cache
def composed(*files: str) -> dict[str, Any]:
    """The compose file as Compose understands it, with the example's values; it checks it by its schema."""
    argv = [str(Path(sys.executable).with_name("docker-compose")), "--env-file", ".env.example"]
    named = [part for file in ("docker-compose.yml", *files) for part in ("--file", file)]
    profiles = [part for name in PROFILES for part in ("--profile", name)]
    command = ["config", "--format", "json", "--no-path-resolution"]
    done = subprocess.run(
        [*argv, *named, *profiles, *command], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def with_http(environ: Mapping[str, str], port: str = "8001") -> dict[str, str]:
    """What the image adds."""
    return {"K2_HTTP__HOST": "0.0.0.0", "K2_HTTP__PORT": port, **environ}  # noqa: S104 - never bound


@pytest.mark.parametrize("name", [*SETTINGS, "init"])
def test_a_service_of_the_compose_file_starts_with_its_settings(name: str) -> None:
    load(OURS[name], with_http(composed()["services"][name]["environment"]))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_sends_spans_when_asked_to(name: str) -> None:
    environ = composed("deploy/otel/tracing.yml")["services"][name]["environment"]
    settings: Any = load(OURS[name], with_http(environ))
    assert settings.observability.otlp_endpoint == "http://otel-collector:4318"


def test_images_are_pinned_by_tag_and_local_ones_are_never_pulled() -> None:
    images = {name: service["image"] for name, service in composed()["services"].items()}
    assert [image for image in images.values() if not re.search(r":[^:/]+$", image)] == []
    assert [image for image in images.values() if image.endswith(":latest")] == []
    local = composed("deploy/docker/standin.yml")["services"]
    standins = {name for name, service in local.items() if service["image"].startswith("standin/")}
    assert standins == {"kafka", "postgres", "registry", "store", "prometheus", "grafana"}
    assert {local[name]["pull_policy"] for name in standins} == {"never"}


def test_ports_are_published_on_the_loopback_interface_alone() -> None:
    ports = [port for service in composed()["services"].values() for port in service.get("ports", ())]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_container_has_a_limit_and_our_own_can_write_nothing_and_gain_nothing() -> None:
    for name, service in composed()["services"].items():
        assert int(service["deploy"]["resources"]["limits"]["memory"]) > 0, name
        if name in OURS:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["user"] == "10001:10001", name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_a_drain_ends_before_the_grace_period() -> None:
    drain = CsvLoaderSettings.model_fields["service"].annotation.model_fields["drain_seconds"].default
    for name in SETTINGS:
        assert composed()["services"][name]["stop_grace_period"] == "30s"
    for resource in resources("base"):
        if resource["metadata"]["name"] in SETTINGS and "template" in resource["spec"]:
            assert resource["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain
    assert drain < 30


def own_hosts(environ: Mapping[str, str], name: str) -> frozenset[str]:
    settings: Any = load(OURS[name], with_http(environ))
    return frozenset(settings.http.allowed_hosts)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_of_the_compose_file_answers_to_its_name(name: str) -> None:
    service = composed()["services"][name]
    assert is_own(name, own_hosts(service["environment"], name), server="172.18.0.7")
    # Prometheus asks each container by its address.
    told = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    assert {job["dns_sd_configs"][0]["type"] for job in told["scrape_configs"]} == {"A"}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pod_answers_to_its_services_names_and_to_probes_by_its_address(name: str) -> None:
    (settings,) = (r["data"] for r in resources("base") if r["metadata"]["name"] == "k2-settings")
    own = frozenset(settings["K2_HTTP__ALLOWED_HOSTS"].split(","))
    for host in (name, f"{name}.k2.svc", f"{name}.k2.svc.cluster.local", "10.1.2.3"):
        assert is_own(host, own, server="10.1.2.3")
    assert not is_own("evil.example", own, server="10.1.2.3")
    (container,) = pods("base")[name]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert not {"host", "httpHeaders"} & container[probe]["httpGet"].keys()


def test_no_secret_stands_in_the_compose_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    secrets = re.findall(r"(?:PASSWORD|SECRET\w*|CREDENTIAL|_KEY): (.+)", text)
    assert secrets
    assert [value for value in secrets if not value.startswith("${STACK_")] == []


def test_the_services_start_once_everything_before_them_is_healthy() -> None:
    services = composed()["services"]
    waits = {name: told["condition"] for name, told in services["init"]["depends_on"].items()}
    assert waits == dict.fromkeys(("kafka", "registry", "store", "postgres"), "service_healthy")
    for name in SETTINGS:
        assert services[name]["depends_on"]["init"]["condition"] == "service_completed_successfully"
        assert services[name]["healthcheck"]["test"] == ["CMD", "python", "-m", "k2common.probe"]


def test_prometheus_reads_every_service() -> None:
    told = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in told["scrape_configs"]}
    assert {name: (job["names"], job["port"]) for name, job in jobs.items()} == {
        name: ([name], port) for name, port in zip(SETTINGS, range(8001, 8006), strict=True)
    }


def test_prometheus_gets_all_rules_with_compose_and_on_kubernetes() -> None:
    home = ROOT / "deploy" / "prometheus"
    rules = sorted(f"rules/{path.name}" for path in (home / "rules").glob("*.yml"))
    volumes = {volume["target"]: volume for volume in composed()["services"]["prometheus"]["volumes"]}
    assert volumes["/etc/prometheus/rules"]["source"] == "./deploy/prometheus/rules"
    assert yaml.safe_load((home / "prometheus.yml").read_text("utf-8"))["rule_files"] == ["rules/*.yml"]
    told = yaml.safe_load((home / "kubernetes.yml").read_text("utf-8"))
    assert told["rule_files"] == ["/etc/prometheus/rules/*.yml"]
    kustomization = yaml.safe_load((home / "kustomization.yaml").read_text("utf-8"))
    files = {entry["name"]: entry["files"] for entry in kustomization["configMapGenerator"]}
    assert files == {"k2-prometheus": ["prometheus.yml=kubernetes.yml"], "k2-rules": rules}


def test_prometheus_finds_the_pods_of_every_service_and_knows_them_by_its_name() -> None:
    told = yaml.safe_load((ROOT / "deploy/prometheus/kubernetes.yml").read_text("utf-8"))
    (job,) = told["scrape_configs"]
    read = {label for rule in job["relabel_configs"] for label in rule["source_labels"]}
    meta = "__meta_kubernetes_pod"
    (named,) = (rule for rule in job["relabel_configs"] if rule.get("target_label") == "job")
    assert named["source_labels"] == [f"{meta}_label_app_kubernetes_io_name"]
    for name, port in zip(SETTINGS, range(8001, 8006), strict=True):
        (pod,) = (r["spec"]["template"]["metadata"] for r in resources("base") if _runs(r, name))
        known = {
            f"{meta}_{kind}_{re.sub('[./-]', '_', key)}"
            for kind, entries in (("label", pod["labels"]), ("annotation", pod["annotations"]))
            for key in entries
        }
        assert read - {f"{meta}_ip", f"{meta}_name", "__meta_kubernetes_namespace"} <= known
        assert pod["labels"]["app.kubernetes.io/name"] == name
        assert pod["annotations"] == {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)}


def _runs(resource: Mapping[str, Any], name: str) -> bool:
    return resource["metadata"]["name"] == name and "template" in resource.get("spec", {})


def resources(folder: str) -> Iterator[dict[str, Any]]:
    """The resources that a kustomization lists, as its files have them."""
    here = KUBERNETES / folder
    told = yaml.safe_load((here / "kustomization.yaml").read_text("utf-8"))
    for name in told["resources"]:
        if (here / name).is_dir():
            yield from resources(str((here / name).resolve().relative_to(KUBERNETES)))
        else:
            yield from yaml.safe_load_all((here / name).read_text("utf-8"))


def patched(folder: str) -> Iterator[dict[str, Any]]:
    """The same with the overlay's patches, each of which has something to change."""
    found = list(resources(folder))
    told = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text("utf-8"))
    for patch in told.get("patches", ()):
        change = yaml.safe_load((KUBERNETES / folder / patch["path"]).read_text("utf-8"))
        (target,) = (entry for entry in found if _named(entry) == _named(change))
        _merge(target, change)
    yield from found


def _named(resource: Mapping[str, Any]) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def _merge(target: dict[str, Any], change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and key in target:
            _merge(target[key], value)
        elif isinstance(value, list) and key in target:
            for entry in value:
                (same,) = (old for old in target[key] if old["name"] == entry["name"])
                _merge(same, entry)
        else:
            target[key] = value


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_the_manifests_are_valid(folder: str) -> None:
    kinds = []
    for resource in patched(folder):
        kinds.append(resource["kind"])
        if not resource["apiVersion"].startswith("keda.sh/"):  # the schema is KEDA's own
            kubernetes_validate.validate(resource, VERSION, strict=True)
    expected = {
        "ConfigMap",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "StatefulSet",
    }
    assert expected <= set(kinds)


def pods(folder: str) -> dict[str, dict[str, Any]]:
    return {
        resource["metadata"]["name"]: resource["spec"]["template"]["spec"]
        for resource in patched(folder)
        if "template" in resource.get("spec", {})
    }


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_a_pod_starts_with_its_settings_and_takes_secrets_by_reference(folder: str) -> None:
    maps = {r["metadata"]["name"]: r["data"] for r in patched(folder) if r["kind"] == "ConfigMap"}
    for name, pod in pods(folder).items():
        (container,) = pod["containers"]
        environ = {
            key: value
            for entry in container["envFrom"]
            for key, value in maps[entry["configMapRef"]["name"]].items()
        }
        for entry in container["env"]:
            environ[entry["name"]] = entry.get("value", "a-value-from-elsewhere")
            if re.search(r"CREDENTIAL|SECRET|_KEY$", entry["name"]):
                assert entry["valueFrom"]["secretKeyRef"]["name"] == "k2-secrets"
        load(OURS[name], with_http(environ))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pod_is_probed_bounded_and_allowed_nothing(name: str) -> None:
    pod = pods("base")[name]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["resources"]["limits"]["memory"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_service_has_a_budget_and_scaling_targets_exist() -> None:
    found = list(patched("overlays/example"))
    budgets = {
        r["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        for r in found
        if r["kind"] == "PodDisruptionBudget"
    }
    assert budgets == SETTINGS.keys()
    deployments = {r["metadata"]["name"] for r in found if r["kind"] == "Deployment"}
    targets = {r["spec"]["scaleTargetRef"]["name"] for r in found if "scaleTargetRef" in r.get("spec", {})}
    assert targets == deployments
    code = "".join(path.read_text("utf-8") for path in ROOT.glob("services/*/src/*/metrics.py"))
    queries = [t["metadata"]["query"] for r in found for t in r.get("spec", {}).get("triggers", ())]
    assert [q for q in queries if f'"{re.findall(r"k2_[a-z_]+", q)[0]}"' not in code] == []
