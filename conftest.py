"""How all tests run: by what Hypothesis finds and never by how long it took, without a proxy, side by side.

Each run draws other examples; `HYPOTHESIS_PROFILE=full` draws four times as many (`./task test:full`).
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from k2common.settings.loopback import exclude_host
from xdist.scheduler import LoadScopeScheduling

ONE_WORKER = ("tests/chaos/", "tests/contract/", "tests/e2e/")
"""Folders whose tests share one fleet, or would each take both processors with what they kill."""

settings.register_profile("k2", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", settings.get_profile("k2"), max_examples=100)
settings.register_profile("fuzz", settings.get_profile("k2"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "k2"))

# The tests' own requests to servers on this machine.
exclude_host(os.environ, "127.0.0.1")


class WholeModules(LoadScopeScheduling):
    """Gives each worker whole modules, or whole folders of `ONE_WORKER`, in the order of collection.

    With `--no-loadscope-reorder`; the long ones come first, so that short ones fill up the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return next((folder for folder in ONE_WORKER if module.startswith(folder)), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> WholeModules:
    """The scheduler for `pytest -n`."""
    return WholeModules(config, log)
