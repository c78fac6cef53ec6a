"""`up` gives up with the end of the log that tells why, and says after Ctrl-C what runs on."""

import json
import os
from pathlib import Path

import pytest
from k2common.errors import SetupError, TransientError
from k2local import cli
from k2local.settings import LocalSettings
from k2local.startup import component_names, log_path, wait_until_ready
from k2local.startup_progress import MOST_DEATHS


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    settings = LocalSettings(home=tmp_path, cache=tmp_path)
    (tmp_path / "logs").mkdir()
    return settings


def write_states(settings: LocalSettings, **deaths: int) -> None:
    states = [
        {
            "name": name,
            "pid": None,
            "port": 9000 + number,
            "state": "dead" if name in deaths else "ready",
            "deaths": deaths.get(name, 0),
        }
        for number, name in enumerate(component_names(settings))
    ]
    (settings.home / "state.json").write_text(json.dumps(states), "utf-8")


def test_all_that_is_ready_is_told_with_its_port(
    settings: LocalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_states(settings)
    states = wait_until_ready(settings, os.getpid(), is_running=lambda: True)
    assert [state.name for state in states] == component_names(settings)
    assert "up - kafka is ready on port 9000\n" in capsys.readouterr().out


def test_ready_components_of_a_supervisor_that_has_ended_are_no_success(settings: LocalSettings) -> None:
    write_states(settings)
    log_path(settings, "supervisor").write_text("supervisor - the reason\n", "utf-8")
    with pytest.raises(SetupError, match=r"has ended\n==> .*supervisor\.log <==\nsupervisor - the reason"):
        wait_until_ready(settings, os.getpid(), is_running=lambda: False)


def test_a_component_that_keeps_ending_is_given_up_with_its_log(settings: LocalSettings) -> None:
    write_states(settings, **{"csv-loader": 1, "iceberg-sink": MOST_DEATHS})
    log_path(settings, "csv-loader").write_text("not this\n", "utf-8")
    log_path(settings, "iceberg-sink").write_text("a setting is wrong\n", "utf-8")
    with pytest.raises(TransientError) as raised:
        wait_until_ready(settings, os.getpid(), is_running=lambda: True)
    reason, _, tail = str(raised.value).partition("\n")
    assert reason == f"iceberg-sink has ended {MOST_DEATHS} times"
    assert tail.endswith("iceberg-sink.log <==\na setting is wrong")


@pytest.mark.parametrize(("ran_before", "told"), [(False, cli.NOTHING_RUNS), (True, cli.FLEET_RUNS)])
def test_after_ctrl_c_one_line_says_what_runs_on(
    settings: LocalSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ran_before: bool,
    told: str,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    stopped: list[LocalSettings] = []
    running = [1] if ran_before else []
    monkeypatch.setenv("K2_HOME", str(settings.home))
    monkeypatch.setattr(cli, "supervisor_pid", lambda _: running[0] if running else None)
    monkeypatch.setattr(cli, "_start", lambda _: running.append(1))
    monkeypatch.setattr(cli, "wait_until_ready", interrupted)
    monkeypatch.setattr(cli, "down", stopped.append)
    assert cli.main(["up"]) == cli.EXIT_INTERRUPTED
    assert capsys.readouterr().err == f"up - interrupted: {told}\n"
    assert len(stopped) == (0 if ran_before else 1)
