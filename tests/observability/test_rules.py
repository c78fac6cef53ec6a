"""Each alert fires when it should and is silent otherwise, on made series and on recorded ones."""

from pathlib import Path

import pytest
from k2local.prometheus import Programs

from tests.observability.promtool import RULES, promtool

HERE = Path(__file__).parent


def test_promtool_finds_nothing_wrong_with_the_rules(programs: Programs) -> None:
    promtool(programs, "check", "rules", "--lint-fatal", *sorted(RULES.glob("*.yml")))


@pytest.mark.parametrize("path", sorted((HERE / "rules").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_on_made_series(programs: Programs, path: Path) -> None:
    promtool(programs, "test", "rules", path)
