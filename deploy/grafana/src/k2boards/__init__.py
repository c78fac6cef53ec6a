"""The dashboards of the fleet: Grafana reads what this package makes, and a test runs each panel's query."""
