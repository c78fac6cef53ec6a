"""`python -m ingest_gateway`."""

from k2common.http.access.hosts import HostGuard
from k2common.runtime.service import run_service

from ingest_gateway.app import build
from ingest_gateway.settings import IngestGatewaySettings

if __name__ == "__main__":
    run_service(IngestGatewaySettings, build, name="ingest-gateway", guard=HostGuard)
