"""One environment serves the whole fleet: no service stumbles over another one's block."""

import ast
from pathlib import Path
from typing import get_type_hints

import pytest
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.commits.rebase import RebaseSettings
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.provision import ProvisionSettings
from k2common.settings.block import Block
from k2common.settings.load import BLOCKS
from query_service.settings import QueryServiceSettings
from replay_service.settings import ReplayServiceSettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "kind",
    [
        CsvLoaderSettings,
        IcebergSinkSettings,
        IngestGatewaySettings,
        ProvisionSettings,
        QueryServiceSettings,
        RebaseSettings,
        ReplayServiceSettings,
    ],
)
def test_the_blocks_of_a_service_are_passed_over_by_the_others(kind: type[Block]) -> None:
    assert set(get_type_hints(kind)) - {"model_config"} <= BLOCKS


def test_every_http_client_says_whether_it_reads_the_proxies_of_the_environment() -> None:
    calls = [
        (path.name, node.lineno)
        for folder in ("libs", "services", "deploy")
        for path in sorted((ROOT / folder).glob("**/src/**/*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and _opens_client(node.func) and not _decides(node)
    ]
    assert calls == []


def _opens_client(function: ast.expr) -> bool:
    names = {"httpx", "requests", "urllib"}
    methods = {
        "get",
        "post",
        "put",
        "delete",
        "head",
        "request",
        "stream",
        "Client",
        "AsyncClient",
        "urlopen",
    }
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id in names
        and function.attr in methods
    )


def _decides(call: ast.Call) -> bool:
    # `**options` of a client are k2client's, which decide by address.
    return bool({keyword.arg for keyword in call.keywords} & {"trust_env", "transport", None})
