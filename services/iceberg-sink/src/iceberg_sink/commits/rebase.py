"""`python -m iceberg_sink rebase --epoch N`: the tables go on with topics that were re-created.

Every row that is visible stays so. The table of a topic that is the same goes on at its offsets, that of one
that was re-created at the new log's beginning. What was still loading from a log that is no more can never be
whole: it is refused, or failed when the operator says so. A table that is in the epoch already is left alone,
so a command that was interrupted may be given again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime

from k2common.errors import K2Error, SetupError
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.versions.documents import head_version
from k2common.kafka.identity import Identity, identify
from k2common.schemas.datasets import DATASETS, STATUS, TOPICS, Dataset, dead_letter_topic
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.load import load
from k2common.versions.hidden import HiddenUpload, Reason
from k2common.versions.version import Version

from iceberg_sink.commits.topic_identity import origin, recorded_topics, recreated_topics, topics_of


class RebaseSettings(Block):
    """What has to be reached."""

    kafka: KafkaSettings
    iceberg: IcebergSettings


def rebased(
    head: Version | None,
    dataset: Dataset,
    *,
    epoch: int,
    recreated: Set[str],
    fail_loading: bool,
    now: datetime,
) -> Version:
    """The version with which the table begins epoch `epoch`, when the topics `recreated` were re-created.

    Raises SetupError when the epoch is not a later one, or uploads are loading that would never end.
    """
    known = head or Version(
        table=dataset.table, number=0, committed_at=now, schema_id=0, epoch=epoch - 1, offsets={}
    )
    if known.epoch >= epoch:
        raise SetupError(f"{dataset.table} is in epoch {known.epoch}; a new one is larger than {known.epoch}")
    lost = {number for (topic, _), number in dataset.places.items() if topic in recreated}
    hidden = dict(known.hidden)
    loading = sorted(u for u, entry in hidden.items() if entry.reason is Reason.LOADING)
    endless = bool(lost) or STATUS.name in recreated
    if endless and loading and not fail_loading:
        raise SetupError(
            f"{dataset.table}: {len(loading)} uploads are loading, such as {loading[0]}, and their rest "
            "was in a topic that is no more; --fail-loading fails them, and they can be posted again"
        )
    if endless:
        hidden |= {u: HiddenUpload(reason=Reason.FAILED, ranges=hidden[u].ranges) for u in loading}
    last = {partition: at for partition, at in known.offsets.items() if partition in lost}
    spans = range(max(known.ended, default=-1) + 1, epoch) if lost else ()
    begun = replace(
        known,
        epoch=epoch,
        offsets={partition: at for partition, at in known.offsets.items() if partition not in lost},
        ended={**known.ended, **dict.fromkeys(spans, last)},
        resume={topic: at for topic, at in known.resume.items() if topic not in recreated},
        dead_letters=0 if dead_letter_topic(dataset.topic).name in recreated else known.dead_letters,
    )
    return begun.successor(now=now, offsets={}, hidden=hidden)


def rebase(
    catalog: Catalog, present: Identity, *, epoch: int, recreated: Set[str], fail_loading: bool, now: datetime
) -> Mapping[str, str]:
    """Begin the epoch in every table; what was done, by table.

    `recreated` names topics that are known to be re-created, beside those whose ids say so. Raises SetupError
    as `rebased`, before anything is committed; Fenced when a sink is running.
    """
    chosen: dict[str, tuple[Dataset, Set[str]]] = {}
    for dataset in DATASETS.values():
        table = load_table(catalog, dataset.table)
        head, recorded = head_version(table), recorded_topics(table)
        if head is not None and head.epoch == epoch:
            continue
        own = set(topics_of(dataset))
        gone: Set[str] = (recreated_topics(recorded, present) | recreated) & own
        if head is not None and not (recorded.keys() & own) and not gone:
            raise SetupError(
                f"{dataset.table} does not say which topics it was filled from; name those that were "
                "re-created with --recreated, or all with --recreated all"
            )
        rebased(head, dataset, epoch=epoch, recreated=gone, fail_loading=fail_loading, now=now)
        chosen[dataset.table] = (dataset, gone)
    for dataset, gone in chosen.values():
        _commit(catalog, dataset, present, epoch=epoch, recreated=gone, fail_loading=fail_loading, now=now)
    return {
        table: "goes on at its offsets" if not gone & {t.name for t in dataset.topics} else "restarts"
        for table, (dataset, gone) in chosen.items()
    }


def _commit(
    catalog: Catalog,
    dataset: Dataset,
    present: Identity,
    *,
    epoch: int,
    recreated: Set[str],
    fail_loading: bool,
    now: datetime,
) -> None:
    def change(head: Version | None) -> Version:
        return rebased(head, dataset, epoch=epoch, recreated=recreated, fail_loading=fail_loading, now=now)

    own = {name: present.topics[name] for name in topics_of(dataset) if name in present.topics}
    found = Identity(cluster=present.cluster, topics=own)
    commit(catalog, Proposal(table=dataset.table, epoch=epoch, change=change, origin=origin(found)))


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Run the command: 0 when every table is in the epoch, 78 when that cannot be, 1 for anything else."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(RebaseSettings, environ)
        names = [topic.name for topic in TOPICS]
        recreated = set(names) if "all" in options.recreated else set(options.recreated)
        if unknown := sorted(recreated - set(names)):
            raise SetupError(f"there is no topic {', '.join(unknown)}")
        present = asyncio.run(identify(settings.kafka, names))
        done = rebase(
            open_catalog(settings.iceberg),
            present,
            epoch=options.epoch,
            recreated=recreated,
            fail_loading=options.fail_loading,
            now=datetime.now(UTC),
        )
    except K2Error as error:
        sys.stderr.write(f"rebase: {error}\n")
        return os.EX_CONFIG if isinstance(error, SetupError) else 1
    for table, what in sorted(done.items()):
        sys.stdout.write(f"{table}: epoch {options.epoch}, {what}\n")
    sys.stdout.write(f"Now start every service with K2_KAFKA__EPOCH={options.epoch}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m iceberg_sink rebase", description=__doc__)
    parser.add_argument("--epoch", type=int, required=True, help="larger than the tables' present one")
    parser.add_argument(
        "--recreated",
        action="append",
        default=[],
        metavar="TOPIC",
        help="was re-created, whatever its id; or: all",
    )
    parser.add_argument(
        "--fail-loading", action="store_true", help="fail uploads whose rest was in a topic that is no more"
    )
    return parser
