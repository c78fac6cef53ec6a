"""One pydantic block per neighbour; a service's settings are the blocks it needs."""
