"""Wires the sink together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager

import pyarrow as pa
from k2common.http.app import create_app
from k2common.http.viewer import documented
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.gaps import GapStore
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.tags import Tags
from k2common.iceberg.versions.documents import head_version
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.consumer import Place
from k2common.query.instruments import Instruments
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime import failpoints
from k2common.runtime.assignment import Assignment, Work
from k2common.runtime.blocking import Blocking
from k2common.runtime.fault_metrics import FaultMetrics
from k2common.runtime.retry import lasting
from k2common.runtime.service import Runtime, Service
from k2common.schemas.datasets import (
    CHUNKS,
    CLAIMS,
    COMMANDS,
    COMMITS,
    DATASETS,
    DEAD_LETTERS,
    GAPS,
    MARKET_DATASETS,
    OWN_TABLES,
    REDRIVES,
    STATUS,
    TABLES,
    TRADES,
    Dataset,
    OwnTable,
)
from k2common.versions.version import Version

from iceberg_sink.batches.batches import BatchWriter, Writer
from iceberg_sink.commits.announcer import Announcement, Announcer
from iceberg_sink.commits.writer import TableWriter, WriterDependencies
from iceberg_sink.dead_letters.redrive import Redriver
from iceberg_sink.dead_letters.routes import DeadLetterRoutes
from iceberg_sink.dead_letters.rows import LetterWriter
from iceberg_sink.gaps.gaps import GapFinder, GapJob
from iceberg_sink.maintenance.maintenance import Maintenance, MaintenanceDependencies
from iceberg_sink.maintenance.routes import MaintenanceRoutes
from iceberg_sink.metrics import MaintenanceMetrics, SinkMetrics
from iceberg_sink.openapi import api
from iceberg_sink.repair.repair import REPAIRABLE, RepairDependencies, TableRepair
from iceberg_sink.repair.routes import RepairRoutes
from iceberg_sink.repair.upload_evidence import UploadEvidence
from iceberg_sink.settings import IcebergSinkSettings
from iceberg_sink.tags.routes import TagRoutes
from iceberg_sink.uploads.commands import Commands
from iceberg_sink.uploads.redrive_marks import RedriveMarks
from iceberg_sink.uploads.settled_uploads import Settling
from iceberg_sink.uploads.statuses import Statuses, earliest_resume

GROUP = "iceberg-sink"
FOLLOWING = "statuses"


@asynccontextmanager
async def build(settings: IcebergSinkSettings, runtime: Runtime) -> AsyncIterator[Service]:
    """The probes, and loops that follow the statuses and work on this replica's share of the tables."""
    # The default pool of Arrow keeps 75 MB more after the same work, at no fewer CPU seconds.
    pa.set_memory_pool(pa.system_memory_pool())
    registry = SchemaRegistry(settings.registry)
    blocking = Blocking(workers=4)
    maintaining = Blocking(workers=1)
    # One batch at a time is decoded and written, whatever the number of tables: that bounds the memory, and
    # allocators keep for each thread what its largest batch took.
    writing = Blocking(workers=1)
    # A repair reads whole tables; maintenance goes on beside it.
    repairing = Blocking(workers=1)
    try:
        catalog = failpoints.forgetful(await blocking.run(open_catalog, settings.iceberg))
        heads = [await blocking.run(_head, catalog, d.table) for d in MARKET_DATASETS.values()]
        codec = await MessageCodec.open(registry, STATUS)
        undecodable = UndecodableMessages(
            settings.kafka,
            owner=f"iceberg-sink-undecodable-{settings.service.replica}",
            keeps={STATUS.name, COMMANDS.name, REDRIVES.name},
            count=runtime.skipped,
            now=runtime.clock.now,
        )
        statuses = Statuses(
            settings.kafka, codec=codec, starts=earliest_resume(heads, STATUS), undecodable=undecodable
        )
        commands = Commands(
            settings.kafka,
            codec=await MessageCodec.open(registry, COMMANDS),
            starts=earliest_resume(heads, COMMANDS),
            clock=runtime.clock,
            undecodable=undecodable,
        )
        marks = RedriveMarks(
            settings.kafka,
            codec=await MessageCodec.open(registry, REDRIVES),
            named=statuses.named,
            undecodable=undecodable,
        )
        commits = await MessageCodec.open(registry, COMMITS)
        settling = Settling(catalog=catalog, statuses=statuses, commands=commands, blocking=blocking)
        verifier = FaultMetrics(runtime.metrics).verifier(settings.iceberg.verdict_seconds)
        tools = WriterDependencies(
            settings=settings,
            catalog=catalog,
            reader=VersionReader(catalog, verifier=verifier),
            statuses=statuses,
            commands=commands,
            marks=marks,
            settling=settling,
            blocking=blocking,
            clock=runtime.clock,
            metrics=SinkMetrics(runtime.metrics, now=lambda: runtime.clock.now().timestamp()),
        )

        def rows(dataset: Dataset) -> Writer:
            epoch = settings.kafka.epoch
            if dataset is DEAD_LETTERS:
                return LetterWriter(
                    catalog=catalog, reader=tools.reader, blocking=blocking, epoch=epoch, clock=runtime.clock
                )
            return BatchWriter(dataset, catalog=catalog, registry=registry, blocking=writing, epoch=epoch)

        def writer(dataset: Dataset, partitions: Set[int]) -> TableWriter:
            owner = f"{dataset.name}-{'-'.join(map(str, sorted(partitions)))}"
            return TableWriter(
                dataset,
                partitions,
                tools=tools,
                batches=lambda: rows(dataset),
                announcer=lambda: Announcer(settings.kafka, codec=commits, owner=owner),
            )

        async def announce(table: Dataset | OwnTable, announcements: Sequence[Announcement]) -> None:
            if announcements:
                announcer = Announcer(settings.kafka, codec=commits, owner=f"{table.name}-maintenance")
                async with announcer.producer:
                    await announcer.announce(announcements)

        maintenance = Maintenance(
            MaintenanceDependencies(
                catalog=catalog,
                reader=tools.reader,
                settings=settings.maintenance,
                live_snapshots=settings.iceberg.live_snapshots,
                attempts=settings.iceberg.commit_attempts,
                announce=announce,
                blocking=maintaining,
                clock=runtime.clock,
                metrics=MaintenanceMetrics(runtime.metrics),
                told=tools.metrics.tell_contents,
                tables=TABLES,
            )
        )

        gaps = GapJob(
            GapStore(catalog),
            lambda: GapFinder(
                catalog,
                settings.gaps,
                warehouse=settings.iceberg,
                metrics=tools.metrics,
                verifier=verifier,
            ),
            tools=tools,
            announcer=lambda: Announcer(settings.kafka, codec=commits, owner=GAPS.name),
        )

        def works(places: Set[Place]) -> Mapping[str, Work]:
            owned = {
                dataset.name: {number for place, number in dataset.places.items() if place in places}
                for dataset in DATASETS.values()
            }
            tools.metrics.owned({DATASETS[name].table for name, own in owned.items() if own})
            found: dict[str, Work] = {
                DATASETS[n].table: writer(DATASETS[n], own).run for n, own in owned.items() if own
            }
            # One replica is enough, and there always is one with the first partition.
            if (TRADES.topic.name, 0) in places:
                found[GAPS.table] = gaps.run
            return {**found, "maintenance": maintenance.look_after(looked_after(places))}

        share = Assignment(
            settings.kafka,
            group=GROUP,
            topics=[topic.name for d in DATASETS.values() for topic in d.topics],
            works=works,
            readiness=runtime.readiness,
            retried=runtime.retried,
        )

        async def ready(stop: asyncio.Event) -> None:
            followers = (statuses.follower, commands.follower, marks.follower)
            if all([await follower.until_caught_up(stop) for follower in followers]):
                runtime.readiness.ready(FOLLOWING)

        runtime.readiness.waiting(FOLLOWING, "statuses and commands are being read")
        redriver = Redriver(
            settings.kafka,
            codec=await MessageCodec.open(registry, REDRIVES),
            catalog=catalog,
            statuses=statuses,
            commands=commands,
            settling=settling,
            blocking=blocking,
            clock=runtime.clock,
        )
        page_key = settings.sink.page_key.get_secret_value().encode()
        dead_letter_routes = DeadLetterRoutes(redriver, page_key=page_key)
        tag_routes = TagRoutes(Tags(catalog), tools.reader, blocking=blocking, clock=runtime.clock)
        claims = await MessageCodec.open(registry, CLAIMS)
        dependencies = RepairDependencies(
            catalog=catalog,
            archive=Archive(catalog, root=settings.iceberg.archive_root),
            evidence=UploadEvidence(
                settings.kafka, claims=claims, chunks=await MessageCodec.open(registry, CHUNKS)
            ),
            statuses=codec,
            redrives=await MessageCodec.open(registry, REDRIVES),
            instruments=Instruments(catalog, blocking=repairing),
            blocking=repairing,
            attempts=settings.iceberg.commit_attempts,
        )
        repairs = {table: TableRepair(dataset, dependencies) for table, dataset in REPAIRABLE.items()}
        app = create_app(
            [
                *MaintenanceRoutes(maintenance).routes(),
                *RepairRoutes(repairs).routes(),
                *tag_routes.routes(),
                *dead_letter_routes.routes(),
                *documented(api),
            ],
            readiness=runtime.readiness,
            metrics=runtime.metrics,
            settings=settings.http,
            writes="admin",
            clock=runtime.clock,
        )
        works_of_service = {
            "statuses": statuses.follower.run,
            "commands": commands.follower.run,
            "redrives": marks.follower.run,
            "settling": settling.run,
            "ready": ready,
            "share": share.run,
        }
        yield Service(
            app=app,
            loops=[
                lasting(name, work, runtime.stop, retried=runtime.retried)
                for name, work in works_of_service.items()
            ],
        )
    finally:
        repairing.close()
        maintaining.close()
        writing.close()
        blocking.close()


def looked_after(places: Set[Place]) -> list[str]:
    """The tables that the owner of these partitions maintains: one of each first partition is enough."""
    tables = [d.table for d in DATASETS.values() if (d.topic.name, 0) in places]
    # Tables without a topic go to who has this one's.
    return [*tables, *(t.table for t in OWN_TABLES)] if (COMMITS.name, 0) in places else tables


def _head(catalog: Catalog, table: str) -> Version | None:
    return head_version(load_table(catalog, table))
