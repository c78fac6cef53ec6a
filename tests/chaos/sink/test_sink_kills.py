"""Three sinks killed, frozen and cut off at any moment: each Kafka offset is in the table once, in order.

Twenty kills; `CHAOS_KILLS` says how many instead.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.iceberg.maintenance.orphan_files import Sweeper
from k2common.provision import ProvisionSettings, provision
from k2common.schemas.datasets import TRADES
from k2common.settings.load import load
from k2common.versions.version import Version
from k2local.fleet import environment
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.stack import LocalStack

from tests.chaos.sink.publisher import Publisher
from tests.chaos.sink.sinks import POINTS, UNEXPECTED, Sinks
from tests.chaos.sink.table_state import TableState, counted, partly_shown

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("CHAOS_KILLS", "20"))
SECONDS_PER_KILL = 30
SHARES = ",".join(f"{point}=0.03" for point in POINTS)
REPLICAS = 3
CALM_SECONDS = 300
GUARD = timedelta(minutes=1)
KILL_SHARE, FREEZE_SHARE = 0.25, 0.1
BROKER_EVERY = 15
"""Kills between two restarts of the broker."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    settings = LocalSettings(home=tmp_path / "k2", cache=cache, base_port=free_port(4))
    with LocalStack(settings) as running:
        yield running


@pytest.mark.timeout(600 + 2 * KILLS * SECONDS_PER_KILL)
async def test_each_offset_is_in_the_table_once_whatever_happens_to_three_sinks(
    stack: LocalStack, tmp_path: Path
) -> None:
    provisioning = load(ProvisionSettings, environment(stack.settings))
    await provision(provisioning)
    catalog = open_catalog(provisioning.iceberg)
    publisher = Publisher(provisioning)
    await publisher.open()
    sinks = Sinks(stack.settings, tmp_path, Random(KILLS))
    try:
        sinks.start(REPLICAS, shares=SHARES)
        await storm(stack, sinks, publisher, catalog)
        await calm(sinks, publisher, catalog)
    finally:
        sinks.end()
    print(f"\nhappened {dict(sinks.happened)}, fail points {dict(sinks.points())}")
    assert not [what for what in sinks.happened if what.startswith(UNEXPECTED)]
    check(catalog, sinks, publisher)


async def storm(stack: LocalStack, sinks: Sinks, publisher: Publisher, catalog: Catalog) -> None:
    """Uploads and disasters, one after the other, until enough were killed."""
    deadline = time.monotonic() + 60 + KILLS * SECONDS_PER_KILL
    broker_at = BROKER_EVERY // 2
    while sinks.kills < KILLS and time.monotonic() < deadline:
        with suppress(TransientError):  # a frozen sink may hold the catalogue's lock
            await an_upload(sinks.random, publisher, TableState(catalog).head)
        if not await sinks.any_ready():
            sinks.tend()
            continue
        action = sinks.random.random()
        if action < KILL_SHARE:
            sinks.kill()
        elif action < KILL_SHARE + FREEZE_SHARE:
            sinks.freeze()
        if sinks.kills >= broker_at:
            broker_at += BROKER_EVERY
            sinks.happened["broker killed"] += 1
            await asyncio.to_thread(stack.restart, "kafka")
        await asyncio.sleep(sinks.random.uniform(0.2, 1.0))
        sinks.tend()


async def an_upload(random: Random, publisher: Publisher, head: Version | None) -> None:
    """One of some size; some fail, some replace one that is shown, some that are shown are taken back."""
    hidden = {} if head is None else head.hidden
    settled = [
        upload
        for upload in publisher.uploads[:-3]
        if head is not None
        and upload.upload_id not in hidden
        and not upload.failure
        and all(head.offsets.get(p, 0) > o for p, o in publisher.last_places(upload))
    ]
    replaced = {upload.replaces for upload in publisher.uploads}
    free = [u for u in settled if u.upload_id not in replaced and not u.retracted]
    kind = random.random()
    await publisher.publish(
        rows=random.randint(20, 400),
        chunks=random.randint(1, 3),
        failure="TEST" if kind < 0.1 else None,
        replaces=random.choice(free).upload_id if free and 0.1 <= kind < 0.25 else None,
    )
    free = [u for u in free if u.upload_id != publisher.uploads[-1].replaces]
    if free and kind > 0.9:
        await publisher.retract(random.choice(free))


async def calm(sinks: Sinks, publisher: Publisher, catalog: Catalog) -> None:
    """Everything is done by the sinks that are left."""
    deadline = time.monotonic() + CALM_SECONDS
    while time.monotonic() < deadline:
        sinks.tend()
        with suppress(TransientError):
            if TableState(catalog).is_done(publisher):
                return
        await asyncio.sleep(0.5)
    state = TableState(catalog)
    raise AssertionError(f"not done: {state.head} {publisher.ends}")


def check(catalog: Catalog, sinks: Sinks, publisher: Publisher) -> None:
    """What was promised."""
    state = TableState(catalog)
    rows, versions = state.rows(), state.versions()
    lost, doubled = counted(rows, publisher)
    print(
        f"kills {sinks.kills}, rows {len(publisher.records)}, lost {lost}, doubled {doubled}, "
        f"versions {len(versions)}, uploads {len(publisher.uploads)}"
    )
    assert (lost, doubled, rows.num_rows) == (0, 0, len(publisher.records))
    assert sinks.kills >= KILLS
    assert [v.number for v in versions] == list(range(1, len(versions) + 1))
    assert partly_shown(rows, versions, publisher.uploads) == []
    now = datetime.now(UTC)
    sweeper = Sweeper(catalog, TRADES.table, guard=GUARD)
    sweeper.sweep(now=now)
    sweeper.sweep(now=now + GUARD)
    assert state.missing() == []
    assert state.unnamed(older_than=now - timedelta(seconds=1)) == []
