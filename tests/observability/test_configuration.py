"""Prometheus reads the project's configuration, and scrapes with it."""

import time
from pathlib import Path

import yaml
from k2local.ports import free_port
from k2local.prometheus import Programs, running_prometheus

from tests.observability.promtool import RULES, promtool

CHECK = ("check", "config", "--lint-fatal")


def test_promtool_finds_nothing_wrong_with_the_configuration(programs: Programs) -> None:
    promtool(programs, *CHECK, RULES.parent / "prometheus.yml")


def test_promtool_finds_nothing_wrong_with_the_configuration_for_kubernetes(
    programs: Programs, tmp_path: Path
) -> None:
    told = yaml.safe_load((RULES.parent / "kubernetes.yml").read_text("utf-8"))
    for job in told["scrape_configs"]:
        # Debian builds the server without this way to find targets.
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump(told), "utf-8")
    promtool(programs, *CHECK, config)


def test_a_running_server_scrapes_what_its_configuration_names(programs: Programs, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "scrape_configs: [{job_name: itself, scrape_interval: 200ms, scrape_timeout: 200ms,"
        f" static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]",
        "utf-8",
    )
    with running_prometheus(programs, config, home=tmp_path / "home", port=port) as prometheus:
        deadline = time.monotonic() + 60
        while not (found := prometheus.query('up{job="itself"} == 1')):
            assert time.monotonic() < deadline, "nothing was scraped"
            time.sleep(0.1)
    assert found[0]["metric"]["instance"] == f"127.0.0.1:{port}"
