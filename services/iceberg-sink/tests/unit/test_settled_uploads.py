"""A replica that owns nothing of a table forgets what the table settles, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iceberg_sink.uploads.commands import Commands
from iceberg_sink.uploads.settled_uploads import Settling
from iceberg_sink.uploads.statuses import Statuses
from k2common.domain.progress import Progress
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import commit
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.schemas.datasets import TRADES
from k2common.settings.kafka import KafkaSettings
from k2common.testing.iceberg import folder_catalog, trade_rows, trades_proposal
from k2common.versions.hidden import HiddenUpload, Reason

KAFKA = KafkaSettings(bootstrap_servers="x:1")
CODEC: Any = None


def complete(upload: str, *, first: int, count: int) -> Progress:
    place = (TRADES.topic.name, 0)
    return Progress(
        upload_id=upload,
        dataset="trades",
        chunks=0,
        batches={place: [(0, first, count)]},
        ends={place: (0, first + count)},
    )


async def test_what_the_head_settles_is_forgotten_and_what_it_does_not_hold_is_kept(tmp_path: Path) -> None:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog, [TRADES])
    taken_back = {"GONE": HiddenUpload(reason=Reason.RETRACTED, ranges=())}
    rows = trade_rows(0, 5, upload="SHOWN")
    commit(catalog, trades_proposal(catalog, rows, expected=None, hidden=taken_back))
    statuses = Statuses(KAFKA, codec=CODEC, starts=None)
    commands = Commands(KAFKA, codec=CODEC, starts=None, clock=SystemClock())
    for upload, first in (("SHOWN", 0), ("COMING", 5)):
        statuses.open("trades")[upload] = complete(upload, first=first, count=5)  # type: ignore[index]
        statuses._firsts[upload] = (0, first)  # noqa: SLF001 - where its first status lies
    for upload in ("GONE", "SHOWN"):
        command = {"kind": "retract", "upload_id": upload, "issued_at": datetime.now(UTC)}
        commands.add({**command, "arguments": {"dataset": "trades"}}, place=(0, 0))
    blocking = Blocking(workers=1)
    await Settling(catalog=catalog, statuses=statuses, commands=commands, blocking=blocking).look()
    blocking.close()
    assert set(statuses.open("trades")) == {"COMING"}
    assert set(commands.pending("trades").retracted) == {"SHOWN"}
