"""The query service over a warehouse in a folder, without a broker: what the query benchmark asks."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.settings.engine import EngineSettings
from k2common.testing.iceberg import folder_catalog

from tests.integration.query.serving import serving


def main(home: Path, port: int) -> None:
    """Serve until the process is terminated."""
    with serving(open_catalog(folder_catalog(home)), engine=EngineSettings()) as app:
        uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
