"""Each alert fires when it should and is silent otherwise, on made series and on recorded ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from k2local.prometheus import Programs

from tests.observability.promtool import RULES, Alert, check_fired, promtool

HERE = Path(__file__).parent
NOTICED = [Alert(name="K2FreshnessBurning", severity=severity) for severity in ("page", "ticket")]


def test_promtool_finds_nothing_wrong_with_the_rules(programs: Programs) -> None:
    promtool(programs, "check", "rules", "--lint-fatal", *sorted(RULES.glob("*.yml")))


@pytest.mark.parametrize("path", sorted((HERE / "rules").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_on_made_series(programs: Programs, path: Path) -> None:
    promtool(programs, "test", "rules", path)


class Recording:
    """What Prometheus saw of a fleet in which a service was killed, and the rules on it."""

    def __init__(self, name: str, programs: Programs, folder: Path) -> None:
        text = (HERE / "recorded" / f"{name}.yml").read_text("utf-8")
        self._told: Mapping[str, Any] = yaml.safe_load(text)
        self._programs = programs
        self._folder = folder

    def check_fired(self, expected: Sequence[Alert], *, until: str) -> None:
        """Fail unless exactly these were firing at some time until the moment `killed`, `back` or `ended`."""
        check_fired(
            self._programs,
            self._folder,
            self._told["input_series"],
            interval=self._told["interval"],
            seconds=self._told[until],
            expected=expected,
        )


@pytest.mark.parametrize("service", ["iceberg-sink", "csv-loader"])
def test_a_service_that_was_killed_is_told_first_and_then_what_users_noticed_of_it(
    programs: Programs, tmp_path: Path, service: str
) -> None:
    recording = Recording(f"{service}-away", programs, tmp_path)
    recording.check_fired([], until="killed")
    down = Alert(name="K2ServiceDown", severity="page", job=service)
    recording.check_fired([down], until="back")
    restarted = Alert(name="K2ServiceRestarted", severity="info", job=service)
    recording.check_fired([*NOTICED, restarted, down], until="ended")


def test_a_service_that_is_killed_again_and_again_is_told(programs: Programs, tmp_path: Path) -> None:
    recording = Recording("csv-loader-restarted", programs, tmp_path)
    recording.check_fired([], until="killed")
    again = [
        Alert(name="K2ServiceRestarted", severity=severity, job="csv-loader") for severity in ("info", "page")
    ]
    recording.check_fired([*NOTICED, *again], until="ended")
