"""`python -m csv_loader`."""

from k2common.http.access.hosts import HostGuard
from k2common.runtime.service import run_service

from csv_loader.app import build
from csv_loader.settings import CsvLoaderSettings

if __name__ == "__main__":
    run_service(CsvLoaderSettings, build, name="csv-loader", guard=HostGuard)
