"""`python -m query_service`."""

from k2common.http.access.hosts import HostGuard
from k2common.runtime.service import run_service

from query_service.app import build
from query_service.settings import QueryServiceSettings

if __name__ == "__main__":
    run_service(QueryServiceSettings, build, name="query-service", guard=HostGuard)
