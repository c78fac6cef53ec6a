"""promtool on the project's rules."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from k2local.prometheus import Programs

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
EVALUATION = "15s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One that is expected to fire, with the label that says where."""

    name: str
    severity: str
    job: str = ""
    table: str = ""

    @property
    def selector(self) -> str:
        labels = {"alertname": self.name, "severity": self.severity, "job": self.job, "table": self.table}
        return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items() if value) + "}"


def promtool(programs: Programs, *arguments: str | Path) -> None:
    """Run it; it has to find nothing wrong."""
    done = subprocess.run([programs.promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def check_fired(
    programs: Programs,
    folder: Path,
    series: Sequence[Mapping[str, str]],
    *,
    interval: str,
    seconds: int,
    expected: Sequence[Alert],
) -> None:
    """Fail unless exactly the expected alerts were firing at some time of the first `seconds`."""
    fired = f'max_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])'
    query = {
        "expr": f"group by (alertname, severity, job, table) ({fired})",
        "eval_time": f"{seconds}s",
        "exp_samples": [{"labels": alert.selector, "value": 1} for alert in expected],
    }
    told = {
        "rule_files": [str(path) for path in sorted(RULES.glob("*.yml"))],
        "evaluation_interval": EVALUATION,
        "tests": [{"interval": interval, "input_series": list(series), "promql_expr_test": [query]}],
    }
    path = folder / "series.yml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    promtool(programs, "test", "rules", path)
