"""How Hypothesis runs here: by what it finds, never by how long a busy machine took."""

from hypothesis import HealthCheck, settings

settings.register_profile("k2", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("k2")
