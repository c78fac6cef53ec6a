"""The stack and the fleet as local processes, without Docker."""
