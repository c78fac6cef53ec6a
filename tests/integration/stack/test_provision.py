"""One command makes every topic, subject and table, and doing it again changes nothing."""

import os
from pathlib import Path

import httpx
import pytest
from k2common.errors import SetupError
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.kafka.positions import all_records
from k2common.kafka.topics import TopicAdmin
from k2common.provision import ProvisionSettings, main, provision
from k2common.schemas.datasets import DATASETS, OWN_TABLES, POSITIONS, TOPICS
from k2common.settings.load import load
from k2local.fleet import environment
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.stack import LocalStack


@pytest.fixture
def settings(stack: LocalStack, tmp_path: Path) -> ProvisionSettings:
    local = stack.settings.model_copy(update={"home": tmp_path})
    return load(ProvisionSettings, environment(local))


async def test_all_is_there_once(settings: ProvisionSettings) -> None:
    positions: list[list[int]] = []
    for _ in range(2):
        await provision(settings)
        partitions = await TopicAdmin(settings.kafka).partitions()
        assert {topic.name: topic.partitions for topic in TOPICS}.items() <= partitions.items()
        async with httpx.AsyncClient() as client:
            subjects = (await client.get(f"{settings.registry.url}/subjects")).json()
        assert {topic.subject for topic in TOPICS if topic.framed} <= set(subjects)
        catalog = open_catalog(settings.iceberg)
        assert all(catalog.table_exists(table.table) for table in (*DATASETS.values(), *OWN_TABLES))
        places = range(POSITIONS.partitions)
        positions.append([len(await all_records(settings.kafka, POSITIONS.name, place)) for place in places])
    assert positions[0] == positions[1]
    assert all(positions[0])


async def test_subjects_are_kept_compatible_and_those_of_others_are_left_alone(
    settings: ProvisionSettings,
) -> None:
    async with httpx.AsyncClient(base_url=settings.registry.url) as client:
        await client.put("/config", json={"compatibility": "NONE"})
        await provision(settings)
        assert (await client.get("/config")).json()["compatibilityLevel"] == "NONE"
        for topic in TOPICS:
            if topic.framed:
                found = (await client.get(f"/config/{topic.subject}")).json()
                assert found["compatibilityLevel"] == "BACKWARD", topic.subject


async def test_a_schema_that_breaks_its_subject_stops(
    settings: ProvisionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provision(settings)
    broken = {"type": "record", "name": "Claim", "fields": [{"name": "new", "type": "long"}]}
    monkeypatch.setattr("k2common.provision.avro_schema", lambda _: broken)
    with pytest.raises(SetupError, match="refuses the schema"):
        await provision(settings)


def test_dependencies_that_stay_unavailable_end_it_with_a_code_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = LocalSettings(home=tmp_path, cache=tmp_path, base_port=free_port(4))
    for name, value in environment(local).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(wait_seconds=0)
    assert ended.value.code == os.EX_TEMPFAIL
    assert "provision: waits: " in capsys.readouterr().err
