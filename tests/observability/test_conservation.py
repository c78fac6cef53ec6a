"""Rows that leave a table behind the sink's back are told by the metric of conservation, and by its alert."""

import re
import time
from pathlib import Path

from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.provision import ProvisionSettings
from k2common.schemas.datasets import TRADES
from k2common.settings.load import load
from k2local.fleet import SERVICES, environment
from k2local.prometheus import Programs
from k2local.testing import Fleet, running_fleet
from pyiceberg.expressions import EqualTo

from tests.observability.conftest import CACHE
from tests.observability.promtool import Alert, check_fired

HEADER = "ts_event_ns,symbol,venue,price,size\n"
START = 1_772_400_000_000_000_000
LOST = 5
ALL_UP = [{"series": f'up{{job="{name}"}}', "values": "1x40"} for name in SERVICES]
WAIT_SECONDS = 120


def rows(symbol: str, count: int) -> bytes:
    return (HEADER + "".join(f"{START + n},{symbol},XTST,1.5,1\n" for n in range(count))).encode()


def unaccounted(fleet: Fleet, *, until: int) -> str:
    """The metric's sample once it is as said."""
    deadline = time.monotonic() + WAIT_SECONDS
    pattern = re.compile(rf'^k2_rows_unaccounted{{table="{TRADES.table}"}} {until}(?:\.0)?$', re.MULTILINE)
    while not (found := pattern.search(text := fleet.get("ingest-gateway", "/metrics").text)):
        told = re.findall(r"^k2_rows_.*trades.*$", text, re.MULTILINE)
        assert time.monotonic() < deadline, told
        time.sleep(0.5)
    return found[0]


def test_rows_that_another_engine_deletes_are_told(programs: Programs, tmp_path: Path) -> None:
    with running_fleet(tmp_path / "fleet", CACHE) as fleet:
        lost = fleet.upload(rows("LOST", LOST), dataset="trades", source="a")["upload_id"]
        healthy = unaccounted(fleet, until=0)
        settings = load(ProvisionSettings, environment(fleet.settings))
        load_table(open_catalog(settings.iceberg), TRADES.table).delete(EqualTo("upload_id", lost))
        fleet.upload(rows("KEPT", 3), dataset="trades", source="b")
        broken = unaccounted(fleet, until=LOST)
    series, before = healthy.rsplit(" ", 1)
    after = broken.rsplit(" ", 1)[1]
    check_fired(
        programs,
        tmp_path,
        [{"series": series, "values": f"{before}x20 {after}x20"}, *ALL_UP],
        interval="15s",
        seconds=600,
        expected=[Alert(name="K2RowsUnaccounted", severity="page", table=TRADES.table)],
    )
