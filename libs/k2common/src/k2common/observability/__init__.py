"""Logs, and spans through the OpenTelemetry API; metrics are each service's own."""
