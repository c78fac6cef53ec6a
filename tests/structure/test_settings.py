"""One environment serves the whole fleet: no service stumbles over another one's block."""

from typing import get_type_hints

import pytest
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.rebase import RebaseSettings
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.provision import ProvisionSettings
from k2common.settings.block import Block
from k2common.settings.load import BLOCKS
from query_service.settings import QueryServiceSettings
from replay_service.settings import ReplayServiceSettings


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
