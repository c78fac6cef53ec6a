"""One pydantic block per dependency; a service's settings are the blocks it needs."""
