"""`python -m iceberg_sink`, and `python -m iceberg_sink rebase` after topics were re-created."""

import sys

from k2common.http.access.hosts import HostGuard
from k2common.runtime.service import run_service

from iceberg_sink.app import build
from iceberg_sink.commits.rebase import main as rebase
from iceberg_sink.settings import IcebergSinkSettings

if __name__ == "__main__":
    if sys.argv[1:2] == ["rebase"]:
        sys.exit(rebase(sys.argv[2:]))
    run_service(IcebergSinkSettings, build, name="iceberg-sink", guard=HostGuard)
