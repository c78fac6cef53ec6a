"""Which topics a table was filled from, by the ids that Kafka gave them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from k2common.iceberg.catalogs.catalog import Table
from k2common.iceberg.versions.documents import CLUSTER_KEY, TOPICS_KEY, origin_of
from k2common.kafka.identity import Identity
from k2common.schemas.datasets import COMMANDS, STATUS, Dataset, dead_letter_topic


def topics_of(dataset: Dataset) -> Sequence[str]:
    """The topics whose offsets the versions of the dataset's table name."""
    names = [topic.name for topic in dataset.topics]
    if dataset.more_topics:
        return names
    names.append(dead_letter_topic(dataset.topic).name)
    return [*names, STATUS.name, COMMANDS.name] if dataset.visibility else names


def origin(present: Identity) -> Mapping[str, str]:
    """The entries of a snapshot's summary."""
    return {CLUSTER_KEY: present.cluster, TOPICS_KEY: json.dumps(dict(present.topics), sort_keys=True)}


def recorded_topics(table: Table) -> Mapping[str, str]:
    """The ids of the topics that the table was filled from; none before the first commit."""
    found: dict[str, str] = json.loads(origin_of(table.metadata).get(TOPICS_KEY, "{}"))
    return found


def recreated_topics(recorded: Mapping[str, str], present: Identity) -> set[str]:
    """The topics that have another id than when they were recorded; one that is unavailable says nothing."""
    return {name for name, topic_id in present.topics.items() if recorded.get(name, topic_id) != topic_id}
