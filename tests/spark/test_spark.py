"""Apache Spark rewrites the tables and expires every snapshot; versions, sink and readers go on unharmed."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.maintenance.rewrite import Bounds, Proof, commit_rewritten, live_files, rewrite
from k2common.iceberg.reading.plan import read_footer
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.iceberg.versions.documents import ancestry, head_version, version_of
from k2common.schemas.datasets import TRADES, VERSIONS
from k2common.testing.iceberg import START, append_trades, folder_catalog, record_version
from k2common.versions.hidden import HiddenUpload, Reason
from k2local.ports import free_port

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
PYTHON = CACHE / "pyspark" / "bin" / "python"
JARS = sorted((CACHE / "spark").glob("*.jar"))
T = TRADES.table
COLUMNS = ("upload_id", "line", "symbol", "price", "ts_event_ns", "conditions", "attributes", "kafka_offset")
VERSIONS_MADE = 24
SECONDS = 240


def java() -> int:
    """The version of Java on the path; 0 for none."""
    path = shutil.which("java")
    if path is None:
        return 0
    said = subprocess.run([path, "-version"], check=False, capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', said)
    return 0 if found is None else int(found[1])


@pytest.fixture(scope="module", autouse=True)
def _needs() -> None:
    if java() not in range(17, 24):
        pytest.skip("Spark 4.0 needs Java 17 or 21 as `java`")
    if not PYTHON.exists() or not JARS:
        pytest.skip("Spark is not there; ./task test:spark downloads it")


def spark(home: Path, *arguments: str) -> list[dict[str, Any]]:
    """What the job says that it did."""
    settings = {
        "spark.master": "local[2]",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.port": str(free_port(20)),
        "spark.blockManager.port": str(free_port(20)),
        "spark.ui.enabled": "false",
        "spark.jars": ",".join(map(str, JARS)),
        "spark.sql.shuffle.partitions": "2",
    }
    catalog = {
        "type": "jdbc",
        "uri": f"jdbc:sqlite:{home}/catalog.db",
        "jdbc.schema-version": "V1",
        "warehouse": f"file://{home}",
    }
    argv = [str(PYTHON), str(ROOT / "deploy/spark/maintain.py"), *arguments, "--table", T]
    argv += [part for name, value in catalog.items() for part in ("--property", f"{name}={value}")]
    argv += [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=SECONDS, cwd=home)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def proof_of(catalog: Catalog, number: int) -> Proof:
    reader = VersionReader(catalog)
    return Proof.of(read_rows(catalog, reader.plan(reader.at(T, number)), COLUMNS))


def filled(catalog: Catalog) -> Mapping[int, Proof]:
    """Versions with uploads that were retracted, replaced and are still loading; what each shows."""
    ensure_tables(catalog, [TRADES, VERSIONS])
    hidden: dict[str, HiddenUpload] = {}
    found = {}
    for number in range(1, VERSIONS_MADE + 1):
        if number % 5 == 0:
            hidden = {**hidden, f"U{number - 1}": HiddenUpload(reason=Reason.RETRACTED)}
        if number % 7 == 0:
            hidden = {**hidden, f"U{number - 2}": HiddenUpload(reason=Reason.REPLACED, by=f"U{number}")}
        at = START + timedelta(hours=number)
        record_version(
            catalog, append_trades(catalog, 60, upload=f"U{number}", days=2, hidden=hidden, now=at)
        )
        found[number] = proof_of(catalog, number)
    return found


def test_versions_sink_and_planner_go_on_after_spark(tmp_path: Path) -> None:
    catalog = open_catalog(folder_catalog(tmp_path))
    before = filled(catalog)
    rows = VERSIONS_MADE * 60

    said = spark(tmp_path, "rewrite", "manifests", "expire", "scan", "--older-than-seconds", "0")
    done = {entry["action"]: entry for entry in said}
    assert done["rewrite"]["rewritten_data_files_count"] == 2 * VERSIONS_MADE
    assert done["rewrite"]["added_data_files_count"] == 2
    assert done["scan"]["rows"] == rows
    assert done["scan"]["symbol"] == {"ABC": rows}

    table = load_table(catalog, T)
    # Only the tag still leads to a version: the snapshots that held them are gone.
    assert [version_of(snapshot) for snapshot in ancestry(table.metadata)] == [None]
    assert len(table.metadata.snapshots) == 2
    head = head_version(table)
    assert head is not None
    assert (head.number, head.offsets) == (VERSIONS_MADE, {0: rows})
    assert {number: proof_of(catalog, number) for number in before} == before

    reader = VersionReader(catalog)
    plan = reader.plan(reader.at(T, VERSIONS_MADE))
    assert (plan.all_visible, len(plan.straddling)) == ((), 2)

    result = append_trades(catalog, 10, upload="AFTER", hidden=dict(head.hidden))
    assert (result.version.number, result.version.offsets) == (VERSIONS_MADE + 1, {0: rows + 10})
    assert proof_of(catalog, VERSIONS_MADE + 1).rows == before[VERSIONS_MADE].rows + 10

    # Our own rewriting takes Spark's files, and they have footers again.
    for file in live_files(load_table(catalog, T)):
        now = load_table(catalog, T)
        rewritten = rewrite([file], table=now, order=TRADES.order, bounds=Bounds(rows=rows, bytes=2**30))
        commit_rewritten(catalog, now, [file], rewritten)
    table = load_table(catalog, T)
    assert all(read_footer(file.file_path, io=table.io).ranges for file in live_files(table))
    assert {number: proof_of(catalog, number) for number in before} == before
