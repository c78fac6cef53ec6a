"""Large maintenance and scans of the tables with Apache Spark; needs pyspark and nothing of this project.

Rows stay as they are, and so do versions: what Spark writes carries no version document, readers filter such
files row by row. One JSON object per action is printed. `README.md` beside it has whole commands.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import SparkSession

IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,63}")
EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
TICK_ORDER = "symbol,ts_event_ns,sequence,upload_id,line"


def main() -> None:
    """Do the actions in their order on each table."""
    given = _arguments()
    spark = _session(given)
    actions: dict[str, Callable[[SparkSession, argparse.Namespace, str], dict[str, Any]]] = {
        "rewrite": rewrite,
        "manifests": manifests,
        "expire": expire,
        "scan": scan,
    }
    try:
        for table in given.table:
            for action in given.actions:
                found = actions[action](spark, given, table)
                print(json.dumps({"table": table, "action": action, **found}, default=str), flush=True)
    finally:
        spark.stop()


def rewrite(spark: SparkSession, given: argparse.Namespace, table: str) -> dict[str, Any]:
    """Few files instead of many, the rows of each sorted; counts of both."""
    order = ", ".join(f"{column} ASC NULLS LAST" for column in given.sort)
    options = f"map('min-input-files', '2', 'target-file-size-bytes', '{given.file_mib * 1024 * 1024}')"
    return _call(
        spark,
        f"CALL {given.catalog}.system.rewrite_data_files(table => '{table}', strategy => 'sort', "
        f"sort_order => '{order}', options => {options})",
    )


def manifests(spark: SparkSession, given: argparse.Namespace, table: str) -> dict[str, Any]:
    """Few manifests instead of many; counts of both."""
    return _call(spark, f"CALL {given.catalog}.system.rewrite_manifests(table => '{table}')")


def expire(spark: SparkSession, given: argparse.Namespace, table: str) -> dict[str, Any]:
    """All snapshots but the newest that are older than asked for; what a tag names stays."""
    before = datetime.now(UTC) - timedelta(seconds=given.older_than_seconds)
    stamp = before.strftime("%Y-%m-%d %H:%M:%S")
    return _call(
        spark,
        f"CALL {given.catalog}.system.expire_snapshots(table => '{table}', "
        f"older_than => TIMESTAMP '{stamp}', retain_last => {given.retain_last})",
    )


def scan(spark: SparkSession, given: argparse.Namespace, table: str) -> dict[str, Any]:
    """Rows in all, and of the first columns of the sort: a full scan, whatever is hidden."""
    rows = spark.table(f"{given.catalog}.{table}")
    first = given.sort[0]
    groups = rows.groupBy(first).count().orderBy(first).limit(given.groups).collect()
    return {"rows": rows.count(), first: {str(group[0]): group[1] for group in groups}}


def _call(spark: SparkSession, statement: str) -> dict[str, Any]:
    (row,) = spark.sql(statement).collect()
    return dict(row.asDict())


def _session(given: argparse.Namespace) -> SparkSession:
    catalog = f"spark.sql.catalog.{given.catalog}"
    settings = {
        "spark.sql.extensions": EXTENSIONS,
        "spark.sql.session.timeZone": "UTC",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.cache-enabled": "false",
        **{f"{catalog}.{name}": value for name, value in given.property},
        **dict(given.conf),
    }
    builder = SparkSession.builder.appName("k2-maintain")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session: SparkSession = builder.getOrCreate()
    return session


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("actions", nargs="+", choices=["rewrite", "manifests", "expire", "scan"])
    parser.add_argument("--table", action="append", required=True, type=_table, help="such as market.trades")
    parser.add_argument("--catalog", default="k2", type=_identifier, help="K2_ICEBERG__CATALOG_NAME")
    parser.add_argument(
        "--property", action="append", default=[], type=_pair, help="of the catalogue: name=value"
    )
    parser.add_argument("--conf", action="append", default=[], type=_pair, help="of Spark, name=value")
    parser.add_argument("--sort", default=TICK_ORDER, type=_columns, help="columns by commas")
    parser.add_argument("--file-mib", default=128, type=int, help="size of a file")
    parser.add_argument("--older-than-seconds", default=86_400, type=int, help="age of what expires")
    parser.add_argument("--retain-last", default=1, type=int, help="snapshots that stay")
    parser.add_argument("--groups", default=20, type=int, help="groups that a scan prints")
    return parser.parse_args()


def _identifier(text: str) -> str:
    if IDENTIFIER.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no name")
    return text


def _table(text: str) -> str:
    return ".".join(_identifier(part) for part in text.split(".", 1))


def _columns(text: str) -> Sequence[str]:
    return [_identifier(column) for column in text.split(",")]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


if __name__ == "__main__":
    main()
