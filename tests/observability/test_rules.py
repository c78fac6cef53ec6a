"""Each alert fires when it should and is silent otherwise, on made series and on recorded ones."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from k2local.prometheus import Programs

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
EVALUATION = "15s"

Alert = tuple[str, str, str]
"""Its name, severity and job."""


def promtool(programs: Programs, *arguments: str | Path) -> None:
    done = subprocess.run([programs.promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_rules(programs: Programs) -> None:
    promtool(programs, "check", "rules", "--lint-fatal", *sorted(RULES.glob("*.yml")))


@pytest.mark.parametrize("path", sorted((HERE / "rules").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_on_made_series(programs: Programs, path: Path) -> None:
    promtool(programs, "test", "rules", path)


def fired(
    programs: Programs, folder: Path, recorded: Mapping[str, Any], *, expected: Sequence[Alert], at: int
) -> None:
    """Fail unless exactly the expected alerts were firing at some time up to `at` seconds."""
    samples = [
        {"labels": f'{{alertname="{name}", severity="{severity}", job="{job}"}}', "value": 1}
        for name, severity, job in expected
    ]
    told = {
        "rule_files": [str(path) for path in sorted(RULES.glob("*.yml"))],
        "evaluation_interval": EVALUATION,
        "tests": [
            {
                "interval": recorded["interval"],
                "input_series": recorded["input_series"],
                "promql_expr_test": [
                    {
                        "expr": "group by (alertname, severity, job)"
                        f' (max_over_time(ALERTS{{alertstate="firing"}}[{at}s]))',
                        "eval_time": f"{at}s",
                        "exp_samples": samples,
                    }
                ],
            }
        ],
    }
    path = folder / "recorded.yml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    promtool(programs, "test", "rules", path)


def recording(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((RECORDED / f"{name}.yml").read_text("utf-8"))
    return found
