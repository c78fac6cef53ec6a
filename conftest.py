"""How Hypothesis runs here: by what it finds, never by how long a busy machine took."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("k2", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("k2"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "k2"))
