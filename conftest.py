"""How Hypothesis runs here, by what it finds and never by how long a busy machine took, and no proxy."""

import os

from hypothesis import HealthCheck, settings
from k2common.settings.loopback import exclude_host

settings.register_profile("k2", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("k2"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "k2"))

# The tests' own requests to servers on this machine.
exclude_host(os.environ, "127.0.0.1")
