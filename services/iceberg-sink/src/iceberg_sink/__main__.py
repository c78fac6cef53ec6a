"""`python -m iceberg_sink`."""

from k2common.runtime.service import run_service

from iceberg_sink.app import build
from iceberg_sink.settings import IcebergSinkSettings

if __name__ == "__main__":
    run_service(IcebergSinkSettings, build, name="iceberg-sink")
