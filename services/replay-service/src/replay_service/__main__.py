"""`python -m replay_service`."""

from k2common.http.access.hosts import HostGuard
from k2common.runtime.service import run_service

from replay_service.app import build
from replay_service.settings import ReplayServiceSettings

if __name__ == "__main__":
    run_service(ReplayServiceSettings, build, name="replay-service", guard=HostGuard)
